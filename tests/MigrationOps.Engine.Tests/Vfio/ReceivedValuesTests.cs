using System.Diagnostics;
using System.Net.Sockets;
using System.Security.Cryptography;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>What a receipt says of its devices, for traffic that leaves each value no choice: one channel, and known steps.</summary>
public sealed class ReceivedValuesTests : IDisposable
{
    private const string IdStr = "0000:00:04.0/vfio";
    private const string WarningOfAll = "channel 0: packets have the unknown flag bits 0x1000, which QEMU ignores.";

    // Room for the first packet that has to wait, and not for another one of that size.
    private const long SmallBudget = 100_000;

    private static readonly StreamSection First = new(SectionKind.Start, 1, IdStr, 0, 1, 0, 0);
    private static readonly StreamSection Second = new(SectionKind.Start, 2, IdStr, 7, 1, 0, 0);
    private static readonly byte[][] OfFirst =
        [States.RandomBytes(50_000, seed: 1), States.RandomBytes(60_000, seed: 2), States.RandomBytes(40_000, seed: 3)];
    private static readonly byte[][] OfSecond = [States.RandomBytes(30_000, seed: 4), States.RandomBytes(10, seed: 5)];
    private static readonly byte[][] Precopy = [States.RandomBytes(1000, seed: 6), States.RandomBytes(234, seed: 7)];

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    // Packets 2 and 1 wait for 0, of which 1 has no room in memory. The other device's come in order and never wait.
    [InlineData(true, SmallBudget, 100_000, 60_000, 0, 0)]
    // Everything waits for the end of the pre-copy part; beside packet 2 there is room only for the ten bytes.
    [InlineData(false, SmallBudget, 150_000, 110_000, 30_010, 30_000)]
    [InlineData(false, 1_000_000, 150_000, 0, 30_010, 0)]
    public void Each_value_of_a_device_follows_from_what_came_when(
        bool switchoverFirst, long budget, long firstQueued, long firstSpilled, long secondQueued, long secondSpilled)
    {
        string destination = Directory.CreateDirectory(_folder.File("received")).FullName;
        var (received, elapsed) = Receive(new VfioReceiveOptions
        {
            Endpoint = new Endpoint.Unix(_folder.File("s")),
            Destination = destination,
            MemoryBudget = budget,
        }, switchoverFirst);
        var first = new VfioStateTransfer
        {
            IdStr = IdStr,
            InstanceId = 0,
            Direction = "Receive",
            Packets = 4,
            Bytes = 1234 + 150_000,
            PrecopyBytes = 1234,
            OutOfOrder = 2,
            MaxQueuedBytes = firstQueued,
            SpilledBytes = firstSpilled,
            ConfigBytes = 116,
            Sha256 = Digest([.. Precopy, .. OfFirst]),
            Path = Path.Combine(destination, "0000-00-04.0-vfio.state"),
            Peer = "unix:" + _folder.File("s"),
            Duration = received[0].Duration,
            Warnings = received[0].Warnings,
        };
        Assert.Equal(first, received[0]);
        Assert.Equal(first with
        {
            InstanceId = 7,
            Packets = 3,
            Bytes = 30_010,
            PrecopyBytes = 0,
            OutOfOrder = 0,
            MaxQueuedBytes = secondQueued,
            SpilledBytes = secondSpilled,
            ConfigBytes = 16,
            Sha256 = Digest(OfSecond),
            Path = Path.Combine(destination, "0000-00-04.0-vfio-7.state"),
            Duration = received[1].Duration,
            Warnings = received[1].Warnings,
        }, received[1]);
        Assert.Equal(2, received.Count);
        AssertWarnings(received);
        Assert.All(received, r => AssertPace(r, elapsed));
        Assert.Equal(4, Directory.GetFileSystemEntries(destination).Length);
    }

    [Fact]
    public void Where_the_whole_migration_is_kept_the_digests_are_the_same_and_no_device_has_a_path()
    {
        var (received, elapsed) = Receive(
            new VfioReceiveOptions { Endpoint = new Endpoint.Unix(_folder.File("s")), Archive = _folder.File("archive") }, switchoverFirst: true);
        Assert.Equal([Digest([.. Precopy, .. OfFirst]), Digest(OfSecond)], received.Select(r => r.Sha256));
        Assert.All(received, r => Assert.Null(r.Path));
        AssertWarnings(received);
        Assert.All(received, r => AssertPace(r, elapsed));
        Assert.Equal([_folder.File("archive")], Directory.GetFileSystemEntries(_folder.Path));
    }

    // A device's own warnings, and then those of the whole migration.
    private static void AssertWarnings(IReadOnlyList<VfioStateTransfer> received)
    {
        Assert.Equal(
            [
                "3 bytes follow the end mark of the config state; QEMU ignores them.",
                "Packets have the unknown flag bits 0x80, which QEMU ignores.",
                WarningOfAll,
            ], received[0].Warnings);
        Assert.Equal(
            ["The config state is empty: the device has no saved PCI configuration space.", WarningOfAll], received[1].Warnings);
    }

    private static void AssertPace(VfioStateTransfer transfer, TimeSpan elapsed)
    {
        Assert.True(transfer.Duration > TimeSpan.Zero && transfer.Duration <= elapsed, $"{transfer.Duration} of {elapsed}");
        Assert.Equal(transfer.Bytes / transfer.Duration.TotalSeconds, transfer.Throughput);
    }

    private static (IReadOnlyList<VfioStateTransfer> Received, TimeSpan Elapsed) Receive(
        VfioReceiveOptions options, bool switchoverFirst)
    {
        var listening = new TaskCompletionSource<Endpoint>();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
        long start = Stopwatch.GetTimestamp();
        var receiver = Waiting.OnThread(() => VfioStateReceiver.Receive(options with
        {
            Receive = new ReceiveOptions { Channels = 1 },
            Listening = listening.SetResult,
        }, NullLogger.Instance, scope));

        // Where the receiver fails, so does the source, and the receiver's failure is the one to see.
        var broken = Record.Exception(() => Send(listening.Outcome(), switchoverFirst));
        var received = receiver.Result("the receipt");
        Assert.Null(broken);
        return (received, Stopwatch.GetElapsedTime(start));
    }

    private static void Send(Endpoint target, bool switchoverFirst)
    {
        using var main = HandMade.Connect(target);
        using var channel = HandMade.Connect(target);
        var writer = new MainStreamWriter(main);
        if (!switchoverFirst)
        {
            SendPackets(channel);
        }

        byte[] openReturnPath = [8, 0, 1, 0, 0];
        writer.Begin(openReturnPath);
        writer.Section(SectionKind.Start, First, HandMade.Setup());
        writer.Section(SectionKind.Start, Second, HandMade.Setup());
        Array.ForEach(Precopy, data => writer.Section(SectionKind.Part, First, HandMade.Data(data)));
        writer.StartSwitchover();
        main.Write(HandMade.Ping(2));
        Expect(main, new ReturnPathMessage(ReturnPathMessageType.Pong, 1), new ReturnPathMessage(ReturnPathMessageType.Pong, 2));
        if (switchoverFirst)
        {
            SendPackets(channel);
        }

        writer.End();
        Expect(main, new ReturnPathMessage(ReturnPathMessageType.Shut, 0));
    }

    // Ends when the receiver has closed the channel, and so has done with every packet what it can.
    private static void SendPackets(NetworkStream channel)
    {
        channel.Write(HandMade.Init(0));
        channel.Write(HandMade.Packet(First, 2, OfFirst[2]));
        channel.Write(HandMade.Packet(Second, 0, OfSecond[0]));
        channel.Write(HandMade.Packet(First, 1, OfFirst[1], vfioFlags: 0x80));
        channel.Write(HandMade.Packet(First, 0, OfFirst[0]));
        channel.Write(HandMade.Packet(First, 3, [.. HandMade.Config(100), 1, 2, 3], isConfig: true));
        channel.Write(HandMade.Packet(Second, 1, OfSecond[1], packetFlags: 0x1000));
        channel.Write(HandMade.Packet(Second, 2, HandMade.Config(0), isConfig: true));
        channel.Socket.Shutdown(SocketShutdown.Send);
        Assert.Equal(0, channel.Read(new byte[1]));
    }

    private static void Expect(NetworkStream main, params ReturnPathMessage[] messages)
    {
        byte[] expected = [.. messages.SelectMany(m => m.ToArray())];
        byte[] answers = new byte[expected.Length];
        main.ReadExactly(answers);
        Assert.Equal(expected, answers);
    }

    private static string Digest(byte[][] parts) => Convert.ToHexStringLower(SHA256.HashData([.. parts.SelectMany(p => p)]));
}
