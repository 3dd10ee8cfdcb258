using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>What a recorded multifd channel holds.</summary>
internal sealed class ChannelContents(string path, StreamContents stream) : IChannelVisitor
{
    private const int MaxDevices = 4096;

    private RamBlockContents? _block;

    internal string Path { get; } = path;

    internal int Id { get; private set; } = -1;

    internal Guid Uuid { get; private set; }

    internal long Length { get; set; }

    internal long Packets { get; private set; }

    internal long Syncs { get; private set; }

    internal long Pages { get; private set; }

    internal string Compression { get; private set; } = "none";

    internal Dictionary<(string IdStr, uint Instance), DeviceChannelState> Devices { get; } = [];

    /// <summary>What QEMU accepts and no QEMU writes.</summary>
    internal SortedSet<string> Warnings { get; } = new(StringComparer.Ordinal);

    internal StreamException? Failure { get; set; }

    public void OnInit(ChannelInit init) => (Id, Uuid) = (init.Id, init.Uuid);

    public bool OnRamPacket(in RamPacket packet)
    {
        Packets++;
        Syncs += packet.Header.IsSync ? 1 : 0;
        if (packet.Header.Compression != 0)
        {
            Compression = packet.Header.CompressionName!;
        }

        if (packet.Pages == 0)
        {
            return false;
        }

        var block = Find(packet);
        for (int i = 0; i < packet.Pages; i++)
        {
            ulong offset = packet.PageOffset(i);
            if (offset >= (ulong)block.Block.Length || offset % (ulong)stream.PageSize != 0)
            {
                throw Invalid(packet, $"a page at 0x{offset:x} of RAM block '{packet.Block}', which is 0x{block.Block.Length:x} bytes long");
            }

            block.NoteOrder((long)offset, i < packet.NormalPages ? RamPageKind.Normal : RamPageKind.Fill);
            block.Again += block.Map.Mark((long)offset / stream.PageSize) ? 1 : 0;
        }

        block.Normal += packet.NormalPages;
        block.Zero += packet.ZeroPages;
        block.Multifd += packet.Pages;
        Pages += packet.Pages;
        return false;
    }

    public void OnDevicePacket(in DeviceStatePacket packet)
    {
        Packets++;
        var (idStr, instanceId) = (packet.IdStr, packet.InstanceId);
        if (!Devices.TryGetValue((idStr, instanceId), out var state))
        {
            if (Devices.Count == MaxDevices)
            {
                throw new StreamException(StreamError.LimitExceeded, $"The channel has the state of more than {MaxDevices:N0} devices.") { ByteOffset = packet.Offset };
            }

            Devices.Add((idStr, instanceId), state = new DeviceChannelState());
        }

        state.Packets++;
        state.Bytes += packet.PayloadSize;
    }

    public void OnWarning(string warning) => Warnings.Add(warning);

    public void OnPayload(ReadOnlySpan<byte> data)
    {
    }

    private RamBlockContents Find(in RamPacket packet)
    {
        if (_block is null || !packet.IsOf(_block.Block.NameBytes))
        {
            string name = packet.Block;
            _block = stream.Ram.Find(r => r.Block.Name == name)
                ?? throw Invalid(packet, $"pages of RAM block '{name}', which the main stream does not list");
        }

        return _block;
    }

    private static StreamException Invalid(in RamPacket packet, string what)
        => new(StreamError.InvalidRamPacket, $"The packet at byte {packet.Offset:N0} of the channel has {what}.") { ByteOffset = packet.Offset };
}

/// <summary>How much of a device's state came over a channel.</summary>
internal sealed class DeviceChannelState
{
    internal long Packets { get; set; }

    internal long Bytes { get; set; }
}
