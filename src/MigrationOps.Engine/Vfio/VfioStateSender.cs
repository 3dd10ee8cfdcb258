using System.Diagnostics;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>What to send, and where to.</summary>
internal sealed record VfioSendOptions
{
    /// <summary>The receiver.</summary>
    public required Endpoint Endpoint { get; init; }

    /// <summary>TLS, or plain text.</summary>
    public TransportSecurity Security { get; init; } = TransportSecurity.Default;

    /// <summary>The most channels that a migration can have.</summary>
    public const int MaxChannels = ReceiveState.MostChannels;

    /// <summary>The most data that fits into a packet, in bytes: what receivers take, less the header.</summary>
    public const int MaxPacketSize = (64 * 1024 * 1024) - VfioPacketHeader.Size;

    /// <summary>Number of multifd channels.</summary>
    public int Channels { get; init; } = 4;

    /// <summary>The most data in one packet, in bytes.</summary>
    public int PacketSize { get; init; } = 1024 * 1024;
}

/// <summary>
/// Sends device state over multifd channels, as QEMU does at the switchover: one queue for the migration, a thread for
/// each device that fills it, a thread for each channel that empties it.
/// </summary>
internal static class VfioStateSender
{
    private const uint FirstSectionId = 1;

    /// <summary>Sends the state of devices in one migration.</summary>
    /// <param name="sources">The devices; stay the caller's.</param>
    /// <param name="options">Where to.</param>
    /// <param name="scope">The bounds of the whole transfer.</param>
    /// <returns>One result per device, after the receiver said that it has everything.</returns>
    public static IReadOnlyList<VfioStateTransfer> Send(
        IReadOnlyList<IDeviceStateSource> sources, VfioSendOptions options, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(sources);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(scope);
        using var queue = new DevicePacketQueue(
            VfioPacketHeader.Size + options.PacketSize, 2 * options.Channels + sources.Count, sources.Count, scope.CancellationToken);
        using var sender = new MigrationSender(options.Endpoint, options.Security, scope);
        var results = new VfioStateTransfer[sources.Count];
        long start = Stopwatch.GetTimestamp();
        Send(sender, options.Endpoint,
            (main, openReturnPath) => SendMain(sender, sources, main, openReturnPath, () =>
            {
                var threads = sources.Select((source, i) => Start(scope, queue, () =>
                    results[i] = SendDevice(source, queue, options))).ToList();
                threads.ForEach(t => t.Join());
                threads.ForEach(t => t.Dispose());
                scope.CancellationToken.ThrowIfCancellationRequested();
            }),
            [.. Enumerable.Range(0, options.Channels).Select(id =>
                (Action<Stream>)(channel => queue.Drain(new ChannelInit(Guid.Empty, (byte)id), channel)))]);
        TransferMetrics.Record("vfio-multifd", "send", results.Sum(r => r.Bytes), Stopwatch.GetElapsedTime(start));
        return results;
    }

    private static void Send(MigrationSender sender, Endpoint endpoint, Action<Stream, byte[]> main, IReadOnlyList<Action<Stream>> channels)
    {
        try
        {
            sender.Send(main, channels, target =>
            {
                if (target is { Name: { } name } && name.StartsWith("qemu", StringComparison.Ordinal))
                {
                    throw NoReceiver(endpoint, $"is {target}, which takes no device state without the machine around it; nothing was sent");
                }
            });
        }
        catch (MultifdException e) when (e.Reason == MultifdError.TargetFailed && !sender.HasAnswered)
        {
            throw NoReceiver(endpoint, "closed the connection at the head of the stream, before any device state was sent", e);
        }
    }

    private static MultifdException NoReceiver(Endpoint endpoint, string what, Exception? inner = null)
        => new(MultifdError.TargetTakesWholeMigrations, $"{endpoint}: the target {what}.", inner) { Peer = endpoint.ToString() };

    private static void SendMain(
        MigrationSender sender, IReadOnlyList<IDeviceStateSource> sources, Stream main, byte[] openReturnPath, Action sendDevices)
    {
        var writer = new MainStreamWriter(main);
        StreamSection[] sections = [.. sources.Select((s, i) => new StreamSection(SectionKind.Start, FirstSectionId + (uint)i, s.IdStr, s.InstanceId, 1, 0, 0))];
        byte[] setup = Body(w => w.WriteSetup()), end = Body(w => w.Write(VfioMarker.EndOfState));
        writer.Begin(openReturnPath);
        // Devices stop, and state goes out, only for a target that understands the head.
        sender.WaitForAnswer();
        WriteAll(SectionKind.Start, setup);
        writer.StartSwitchover();
        sendDevices();
        WriteAll(SectionKind.End, end);
        WriteAll(SectionKind.Full, end);
        writer.End();

        void WriteAll(SectionKind kind, byte[] body)
        {
            foreach (var section in sections)
            {
                writer.Section(kind, section, body);
            }
        }
    }

    private static byte[] Body(Action<MarkerWriter> write)
    {
        using var body = new MemoryStream();
        write(new MarkerWriter(body));
        return body.ToArray();
    }

    private static SideThread Start(TransferScope scope, DevicePacketQueue queue, Action action)
        => SideThread.Start("device state", scope, () =>
        {
            try
            {
                action();
            }
            catch (Exception e)
            {
                // Before the channels see the end of the queue.
                scope.Fail(e);
            }
            finally
            {
                queue.Complete();
            }
        });

    private static VfioStateTransfer SendDevice(IDeviceStateSource source, DevicePacketQueue queue, VfioSendOptions options)
    {
        long start = Stopwatch.GetTimestamp();
        using var packets = new DevicePacketWriter(queue, source.IdStr, source.InstanceId, options.PacketSize);
        byte[] config = source.WriteTo(packets);
        packets.Complete(config);
        return new VfioStateTransfer
        {
            IdStr = source.IdStr,
            InstanceId = source.InstanceId,
            Direction = "Send",
            Packets = packets.Packets,
            Bytes = packets.Bytes,
            ConfigBytes = config.Length,
            Sha256 = source.Sha256,
            Path = source.Path,
            Peer = options.Endpoint.ToString(),
            Duration = Stopwatch.GetElapsedTime(start),
        };
    }
}
