using System.Buffers.Binary;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>A device whose last state goes in numbered packets; what was loaded can be put together in any order.</summary>
internal sealed class PacketDevice(string name, CallLog log, int packets, int size = 1000) : ISaveVmHandlers, IDisposable
{
    private readonly SortedDictionary<uint, byte[]> _loaded = [];
    private readonly ManualResetEvent _complete = new(false);

    /// <summary>Done before a packet is sent, with its number.</summary>
    internal Action<uint, SaveVmContext>? BeforeSend { get; init; }

    /// <summary>Done before a packet is taken, with its number.</summary>
    internal Action<uint, SaveVmContext>? BeforeTake { get; init; }

    /// <summary>What the load thread does; null for no load thread.</summary>
    internal Action<PacketDevice, SaveVmContext, CancellationToken>? Loading { get; init; }

    internal WaitHandle Complete => _complete;

    internal byte[] Loaded
    {
        get
        {
            lock (_loaded)
            {
                return [.. _loaded.Values.SelectMany(p => p)];
            }
        }
    }

    /// <summary>The state that was sent.</summary>
    internal byte[] State => [.. Enumerable.Range(0, packets).SelectMany(i => Packet((uint)i)[4..])];

    /// <summary>A load thread that waits for the last packet, or names the missing ones.</summary>
    internal static void AwaitAll(PacketDevice device, SaveVmContext context, CancellationToken token)
    {
        int which = WaitHandle.WaitAny([device.Complete, token.WaitHandle, context.StreamEnded.WaitHandle], TimeSpan.FromSeconds(60));
        token.ThrowIfCancellationRequested();
        if (which != 0)
        {
            throw new InvalidDataException($"{device.Loaded.Length} bytes came");
        }
    }

    public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32(0);

    public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32((uint)context.MultifdChannels);

    public void SaveLiveCompletePrecopyThread(Action<ReadOnlyMemory<byte>> send, SaveVmContext context)
    {
        log.Add($"{name}.thread");
        for (uint i = 0; i < packets; i++)
        {
            BeforeSend?.Invoke(i, context);
            send(Packet(i));
        }
    }

    public void SaveState(SaveVmSaveStream stream, SaveVmContext context)
    {
        log.Add($"{name}.SaveState");
        stream.WriteUInt32(0);
    }

    public void SaveCleanup(SaveVmContext context) => log.Add($"{name}.SaveCleanup");

    public void LoadSetup(SaveVmContext context)
    {
        log.Add($"{name}.LoadSetup");
        if (Loading is { } body)
        {
            context.StartLoadThread(token =>
            {
                body(this, context, token);
                log.Add($"{name}.loaded");
            });
        }
    }

    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId) => stream.ReadUInt32();

    public void LoadStateBuffer(ReadOnlyMemory<byte> data, SaveVmContext context)
    {
        uint index = BinaryPrimitives.ReadUInt32BigEndian(data.Span);
        BeforeTake?.Invoke(index, context);
        lock (_loaded)
        {
            _loaded.Add(index, data[4..].ToArray());
            if (_loaded.Count == packets)
            {
                _complete.Set();
            }
        }
    }

    public void Dispose() => _complete.Dispose();

    public void LoadCleanup(SaveVmContext context) => log.Add($"{name}.LoadCleanup");

    private byte[] Packet(uint index)
    {
        byte[] packet = new byte[4 + size];
        new Random((int)index + name.GetHashCode(StringComparison.Ordinal)).NextBytes(packet);
        BinaryPrimitives.WriteUInt32BigEndian(packet, index);
        return packet;
    }
}
