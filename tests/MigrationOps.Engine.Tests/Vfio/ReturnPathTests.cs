using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>A source that waits for the target's word, as QEMU does with return-path on, and keeps its connections open.</summary>
public sealed class ReturnPathTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_answers_are_those_that_a_real_target_gave()
    {
        byte[] recorded = File.ReadAllBytes(Path.Combine(
            AppContext.BaseDirectory, "Vectors", "vfio", Capture.ConfigFirst, "conn0.s2c.bin"));
        var (failure, answers) = Run(new EditedCapture(Capture.ConfigFirst), TimeSpan.FromSeconds(60), recorded.Length);
        Assert.Null(failure);
        Assert.Equal(recorded, answers);
    }

    [Fact]
    public void A_source_that_waits_for_an_incomplete_device_gets_an_error_that_names_it_within_the_deadline()
    {
        var capture = new EditedCapture(Capture.ConfigFirst);
        capture.Remove(capture.Data);
        var clock = System.Diagnostics.Stopwatch.StartNew();
        var (failure, _) = Run(capture, TimeSpan.FromSeconds(2), int.MaxValue);
        Assert.Equal(StreamError.MissingPacket, Assert.IsType<StreamException>(failure).Reason);
        Assert.Equal("device '0000:00:04.0/vfio': packet 0 is missing; 1 later packet (up to index 1) is waiting.", failure.Message);
        Assert.InRange(clock.Elapsed.TotalSeconds, 1.9, 40);
    }

    [Fact]
    public void Success_is_not_said_before_every_channel_has_had_its_last_SYNC()
    {
        var capture = new EditedCapture(Capture.ConfigFirst);
        capture.Remove(capture.Channels[1].Packets.Last(p => p.Head[11] == 1));
        var (failure, answers) = Run(capture, TimeSpan.FromSeconds(2), int.MaxValue);
        Assert.Equal(MultifdError.MissingSync, Assert.IsType<MultifdException>(failure).Reason);
        Assert.DoesNotContain(new ReturnPathMessage(ReturnPathMessageType.Shut, 0), Parse(answers));
    }

    [Theory]
    [InlineData(null)]
    [InlineData(2)]
    public void A_channel_that_connects_after_the_main_streams_end_is_taken(int? channels)
    {
        var capture = new EditedCapture(Capture.ConfigFirst);
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
        using var listener = Transport.Listen(new Endpoint.Unix(_folder.File("s")), TransportSecurity.Default, scope);
        using var devices = new DeviceStateReceiver(new ReassemblyOptions(), (_, _) => new MemorySink(), scope.CancellationToken);
        var receiver = Task.Run(() => MigrationReceiver.Receive(listener, new ReceiveOptions { Channels = channels, SwitchoverAck = true }, devices, null, scope));
        using var main = Transport.Connect(listener.Endpoint, TransportSecurity.Default, scope);
        using var first = Transport.Connect(listener.Endpoint, TransportSecurity.Default, scope);
        main.Write(capture.Main);
        first.Write(capture.Bytes(0));
        long sent = capture.Main.Length + capture.Bytes(0).Length;
        Assert.True(SpinWait.SpinUntil(() => scope.Moved == sent, TimeSpan.FromSeconds(60)), $"{scope.Moved} of {sent} bytes");
        using (var late = Transport.Connect(listener.Endpoint, TransportSecurity.Default, scope))
        {
            late.Write(capture.Bytes(1));
        }

        // The source closes the others when it has been told that all is well.
        byte[] answers = new byte[File.ReadAllBytes(Path.Combine(
            AppContext.BaseDirectory, "Vectors", "vfio", Capture.ConfigFirst, "conn0.s2c.bin")).Length];
        main.ReadExactly(answers);
        Assert.Contains(new ReturnPathMessage(ReturnPathMessageType.Shut, 0), Parse(answers));
        main.Dispose();
        first.Dispose();
        Assert.Equal(2, receiver.Outcome().Channels.Count);
    }

    [Fact]
    public void A_channel_that_is_announced_and_never_connects_ends_the_receipt_within_the_deadline()
    {
        var capture = new EditedCapture(Capture.ConfigFirst);
        using var scope = new TransferScope(TimeSpan.FromSeconds(2), ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
        using var patient = new TransferScope(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        using var listener = Transport.Listen(new Endpoint.Unix(_folder.File("s")), TransportSecurity.Default, scope);
        using var devices = new DeviceStateReceiver(new ReassemblyOptions(), (_, _) => new MemorySink(), scope.CancellationToken);
        var receiver = Task.Run(() => Record.Exception(
            () => MigrationReceiver.Receive(listener, new ReceiveOptions { Channels = 3 }, devices, null, scope)));
        byte[][] streams = [capture.Main, capture.Bytes(0), capture.Bytes(1)];
        List<Stream> connections = [.. streams.Select(_ => Transport.Connect(listener.Endpoint, TransportSecurity.Default, patient))];
        for (int i = 0; i < streams.Length; i++)
        {
            connections[i].Write(streams[i]);
        }

        var failure = Assert.IsType<MultifdException>(receiver.Outcome());
        connections.ForEach(c => c.Dispose());
        Assert.Equal(MultifdError.MissingChannel, failure.Reason);
        Assert.Equal("Of 3 channels 2 connected; missing: 2.", failure.Message);
    }

    [Fact]
    public void Every_message_of_the_return_path_survives_writing_and_reading()
    {
        foreach (var message in new ReturnPathMessage[]
            { new(ReturnPathMessageType.Shut, 0), new(ReturnPathMessageType.Shut, 1), new(ReturnPathMessageType.Pong, 0xdeadbeef), new(ReturnPathMessageType.SwitchoverAck) })
        {
            byte[] bytes = message.ToArray();
            Assert.Equal([message], Parse(bytes));
            for (int length = 0; length < bytes.Length; length++)
            {
                var reader = WireReader.BigEndian(bytes.AsSpan(0, length));
                Assert.False(ReturnPathCodec.TryRead(ref reader, out _));
                Assert.Equal(0, reader.Position);
            }
        }
    }

    [Theory]
    [InlineData(new byte[] { 0, 1, 0, 3, 0, 0, 0 })]
    [InlineData(new byte[] { 0, 3, 2, 1 })]
    [InlineData(new byte[] { 0, 9, 0, 0 })]
    public void A_message_of_an_impossible_size_or_type_is_an_error(byte[] bytes)
        => Assert.Equal(StreamError.InvalidReturnPath, Assert.Throws<StreamException>(() => Parse(bytes)).Reason);

    private static List<ReturnPathMessage> Parse(byte[] bytes)
    {
        var messages = new List<ReturnPathMessage>();
        var reader = WireReader.BigEndian(bytes);
        while (ReturnPathCodec.TryRead(ref reader, out var message))
        {
            messages.Add(message);
        }

        return messages;
    }

    // Sends the capture over sockets that stay open until the answers have come or the receiver has closed.
    private (Exception? Failure, byte[] Answers) Run(EditedCapture capture, TimeSpan timeout, int answerBytes)
    {
        using var scope = new TransferScope(timeout, ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
        using var patient = new TransferScope(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        using var listener = Transport.Listen(new Endpoint.Unix(_folder.File("s")), TransportSecurity.Default, scope);
        var receiver = Task.Run(() =>
        {
            using var devices = new DeviceStateReceiver(new ReassemblyOptions(), (_, _) => new MemorySink(), scope.CancellationToken);
            return Record.Exception(() => MigrationReceiver.Receive(listener, new ReceiveOptions { SwitchoverAck = true }, devices, null, scope));
        });
        // A source opens all its connections before its main stream can end.
        byte[][] streams = [capture.Main, .. Enumerable.Range(0, capture.Channels.Count).Select(capture.Bytes)];
        List<Stream> connections = [.. streams.Select(_ => Transport.Connect(listener.Endpoint, TransportSecurity.Default, patient))];
        for (int i = streams.Length - 1; i >= 0; i--)
        {
            connections[i].Write(streams[i]);
        }

        using var answers = new MemoryStream();
        byte[] buffer = new byte[64];
        int count;
        while (answers.Length < answerBytes && (count = connections[0].Read(buffer)) > 0)
        {
            answers.Write(buffer, 0, count);
        }

        connections.ForEach(c => c.Dispose());
        return (receiver.Outcome(), answers.ToArray());
    }
}
