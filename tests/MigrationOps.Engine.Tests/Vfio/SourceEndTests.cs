using System.Net.Sockets;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>
/// What a source is told and what it then does: nothing passes for received that its source still has, nor that is not kept.
/// </summary>
public sealed class SourceEndTests : IDisposable
{
    private static readonly StreamSection Device = new(SectionKind.Start, 1, "0000:00:04.0/vfio", 0, 1, 0, 0);
    private static readonly byte[] OpenReturnPath = [8, 0, 1, 0, 0];

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(false, SwitchoverAckCount.ByMachineType, 0)]
    [InlineData(false, SwitchoverAckCount.PerDevice, 0)]
    [InlineData(true, SwitchoverAckCount.ByMachineType, 1)]
    [InlineData(true, SwitchoverAckCount.Once, 1)]
    [InlineData(true, SwitchoverAckCount.PerDevice, 2)]
    public void A_source_is_told_that_it_may_switch_over_only_as_often_as_it_waits_for_that(bool asked, SwitchoverAckCount count, int expected)
    {
        var receiver = Start(new ReceiveOptions { SwitchoverAck = asked, SwitchoverAckCount = count });
        var answers = new List<ReturnPathMessage>();
        using (var main = HandMade.Connect(receiver.Endpoint))
        {
            var writer = new MainStreamWriter(main);
            writer.Begin(OpenReturnPath);
            writer.Section(SectionKind.Start, Device, HandMade.Setup());
            writer.Section(SectionKind.Part, Device, InitialDataSent);
            writer.Section(SectionKind.Part, Device, InitialDataSent);
            // What has come at once is read at once: the answer to the second says that everything before the first has been answered.
            foreach (uint ping in new uint[] { 8, 9 })
            {
                main.Write(HandMade.Ping(ping));
                while (answers.LastOrDefault() != new ReturnPathMessage(ReturnPathMessageType.Pong, ping))
                {
                    answers.Add(ReadAnswer(main));
                }
            }
        }

        Assert.NotNull(receiver.Failure.Result("the receipt"));
        Assert.Equal(expected, answers.Count(a => a.Type == ReturnPathMessageType.SwitchoverAck));
    }

    [Fact]
    public void A_source_that_ends_before_it_is_told_has_failed()
    {
        var receiver = Start(new ReceiveOptions { Channels = 1 });
        using var main = HandMade.Connect(receiver.Endpoint);
        using var channel = HandMade.Connect(receiver.Endpoint);
        SendMain(main);
        Assert.Equal(new ReturnPathMessage(ReturnPathMessageType.Pong, 1), ReadAnswer(main));
        main.Socket.Shutdown(SocketShutdown.Send);
        SendChannel(channel);
        var failure = Assert.IsType<MultifdException>(receiver.Failure.Result("the receipt"));
        Assert.Equal(MultifdError.SourceFailed, failure.Reason);
        Assert.Contains("before it was told", failure.Message);
        Assert.Contains("start nothing", failure.RecommendedAction);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_source_that_does_not_take_the_answer_has_failed(bool tcp)
    {
        var receiver = Start(new ReceiveOptions { Channels = 1 }, tcp ? "tcp:127.0.0.1:0" : null);
        using var main = Connect(receiver.Endpoint);
        using var channel = Connect(receiver.Endpoint);
        SendMain(main);
        Assert.Equal(new ReturnPathMessage(ReturnPathMessageType.Pong, 1), ReadAnswer(main));
        SendChannel(channel);
        // The answer has arrived, and the socket is closed with it unread.
        Waiting.Until(() => main.Socket.Available > 0, "the answer");
        main.Dispose();
        Assert.Equal(MultifdError.SourceFailed, Assert.IsType<MultifdException>(receiver.Failure.Result("the receipt")).Reason);
    }

    [Fact]
    public void A_source_that_takes_the_answer_and_closes_has_succeeded()
    {
        var receiver = Start(new ReceiveOptions { Channels = 1 }, "tcp:127.0.0.1:0");
        using (var main = Connect(receiver.Endpoint))
        using (var channel = Connect(receiver.Endpoint))
        {
            SendMain(main);
            Assert.Equal(new ReturnPathMessage(ReturnPathMessageType.Pong, 1), ReadAnswer(main));
            SendChannel(channel);
            Assert.Equal(new ReturnPathMessage(ReturnPathMessageType.Shut, 0), ReadAnswer(main));
        }

        Assert.Null(receiver.Failure.Result("the receipt"));
    }

    [Fact]
    public void A_migration_without_any_section_carries_nothing()
    {
        var receiver = Start(new ReceiveOptions());
        using (var main = HandMade.Connect(receiver.Endpoint))
        {
            main.Write([0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3, 0]);
        }

        Assert.Equal(StreamError.UnknownElement, Assert.IsType<StreamException>(receiver.Failure.Result("the receipt")).Reason);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("0000:00:09.0/vfio")]
    public void Nothing_listens_where_nothing_would_be_kept(string? idStr)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
        var failure = Assert.Throws<VfioException>(() => VfioStateReceiver.Receive(
            new VfioReceiveOptions { Endpoint = new Endpoint.Unix(_folder.File("s")), IdStr = idStr, Archive = idStr is null ? null : _folder.File("a") },
            NullLogger.Instance, scope));
        Assert.Equal(VfioError.NoDestination, failure.Reason);
        Assert.Empty(Directory.GetFileSystemEntries(_folder.Path));
    }

    [Fact]
    public void A_device_that_the_migration_does_not_have_is_named_before_the_source_is_told()
    {
        var driver = new FakeVfioDriver(VfioMigrationFlags.StopCopy);
        using var device = new VfioDevice(driver);
        var (failure, answers) = Migrate(new VfioReceiveOptions
        {
            Endpoint = new Endpoint.Unix(_folder.File("s")),
            Device = device,
            IdStr = "0000:00:09.0/vfio",
        }, withDevice: true);
        Assert.Equal(VfioError.DeviceNotInMigration, Assert.IsType<VfioException>(failure).Reason);
        Assert.Equal("Expected '0000:00:09.0/vfio' in the migration; it has '0000:00:04.0/vfio'. Nothing was loaded into '/dev/vfio/devices/vfio0'.", failure!.Message);
        Assert.DoesNotContain(answers, a => a.Type == ReturnPathMessageType.Shut);
        Assert.Empty(driver.Entered);
        Assert.Empty(Directory.GetFileSystemEntries(_folder.Path));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_migration_without_a_VFIO_device_gives_no_device_anything(bool intoDevice)
    {
        using var device = new VfioDevice(new FakeVfioDriver(VfioMigrationFlags.StopCopy));
        var (failure, answers) = Migrate(new VfioReceiveOptions
        {
            Endpoint = new Endpoint.Unix(_folder.File("s")),
            Device = intoDevice ? device : null,
            Destination = intoDevice ? null : Directory.CreateDirectory(_folder.File("d")).FullName,
        }, withDevice: false);
        Assert.Equal(VfioError.DeviceNotInMigration, Assert.IsType<VfioException>(failure).Reason);
        Assert.DoesNotContain(answers, a => a.Type == ReturnPathMessageType.Shut);
    }

    private static byte[] InitialDataSent => [0xff, 0xff, 0xff, 0xff, 0xef, 0x10, 0, 5];

    private static byte[] EndOfState => [0xff, 0xff, 0xff, 0xff, 0xef, 0x10, 0, 1];

    private (Task<Exception?> Failure, Endpoint Endpoint) Start(ReceiveOptions options, string? uri = null)
    {
        var listening = new TaskCompletionSource<Endpoint>();
        var task = Waiting.OnThread(() => Record.Exception(() =>
        {
            using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
            using var listener = Transport.Listen(Endpoint.Parse(uri ?? $"unix:{_folder.File("s")}"), TransportSecurity.Default, scope);
            using var devices = new DeviceStateReceiver(new ReassemblyOptions(), (_, _) => new MemorySink(), scope.CancellationToken);
            listening.SetResult(listener.Endpoint);
            MigrationReceiver.Receive(listener, options, devices, null, scope);
        }));
        return (task, listening.Outcome());
    }

    // A whole migration; what the receiver answered, up to its end.
    private static (Exception? Failure, List<ReturnPathMessage> Answers) Migrate(VfioReceiveOptions options, bool withDevice)
    {
        var listening = new TaskCompletionSource<Endpoint>();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
        var receiver = Waiting.OnThread(() => Record.Exception(() => VfioStateReceiver.Receive(
            options with { Listening = listening.SetResult }, NullLogger.Instance, scope)));
        var answers = new List<ReturnPathMessage>();
        using var main = HandMade.Connect(listening.Outcome());
        using var channel = HandMade.Connect(listening.Outcome());
        try
        {
            if (withDevice)
            {
                SendMain(main);
                SendChannel(channel);
            }
            else
            {
                var writer = new MainStreamWriter(main);
                writer.Begin(OpenReturnPath);
                writer.Section(SectionKind.Start, new StreamSection(SectionKind.Start, 2, "ram", 0, 4, 0, 0), EmptyRam);
                writer.Section(SectionKind.End, new StreamSection(SectionKind.Start, 2, "ram", 0, 4, 0, 0), EmptyRam);
                writer.End();
                channel.Write(HandMade.Init(0));
            }

            while (true)
            {
                answers.Add(ReadAnswer(main));
            }
        }
        catch (IOException)
        {
            // The receiver has closed.
        }

        return (receiver.Result("the receipt"), answers);
    }

    // An empty list of blocks ends with the flag EOS.
    private static byte[] EmptyRam => [0, 0, 0, 0, 0, 0, 0, 0x10];

    private static void SendMain(Stream main)
    {
        var writer = new MainStreamWriter(main);
        writer.Begin(OpenReturnPath);
        writer.Section(SectionKind.Start, Device, HandMade.Setup());
        writer.StartSwitchover();
        writer.Section(SectionKind.End, Device, EndOfState);
        writer.Section(SectionKind.Full, Device, EndOfState);
        writer.End();
    }

    private static void SendChannel(NetworkStream channel)
    {
        channel.Write(HandMade.Init(0));
        channel.Write(HandMade.Packet(Device, 0, new byte[1000]));
        channel.Write(HandMade.Packet(Device, 1, HandMade.Config(100), isConfig: true));
        channel.Socket.Shutdown(SocketShutdown.Send);
    }

    private static NetworkStream Connect(Endpoint endpoint)
    {
        if (endpoint is not Endpoint.Tcp tcp)
        {
            return HandMade.Connect(endpoint);
        }

        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = (int)Waiting.Patience.TotalMilliseconds };
        socket.Connect(System.Net.IPAddress.Loopback, tcp.Port);
        return new NetworkStream(socket, ownsSocket: true);
    }

    private static ReturnPathMessage ReadAnswer(Stream main)
    {
        byte[] buffer = new byte[8];
        int length = 4;
        main.ReadExactly(buffer, 0, length);
        main.ReadExactly(buffer, length, buffer[3]);
        var reader = WireReader.BigEndian(buffer.AsSpan(0, length + buffer[3]));
        return ReturnPathCodec.TryRead(ref reader, out var message) ? message : throw new InvalidDataException("The answer is not a whole message.");
    }
}
