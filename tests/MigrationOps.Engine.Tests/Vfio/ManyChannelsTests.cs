using System.Net.Sockets;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>As many channels as a migration can have: their ids fill a byte but for one value.</summary>
public class ManyChannelsTests
{
    private const int Channels = 255;
    private const int PacketsEach = 400;

    private static readonly StreamSection[] Devices =
        [.. Enumerable.Range(0, 4).Select(i => new StreamSection(SectionKind.Start, (uint)i, $"{i / 2}/vfio", (uint)i % 2, 1, 0, 0))];

    [Theory]
    [InlineData(Channels)]
    [InlineData(null)]
    public void Every_byte_arrives_over_all_the_channels_that_there_can_be(int? announced)
    {
        // Before the receiver's time runs: all its bytes are made here.
        var source = new Source(new Random(announced ?? 0));
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
        using var listener = Transport.Listen(new Endpoint.Unix(folder.File("s")), TransportSecurity.Default, scope);
        using var devices = new DeviceStateReceiver(
            new ReassemblyOptions { SpillDirectory = folder.Path }, (_, _) => new MemorySink(), scope.CancellationToken);
        var receiver = Waiting.OnThread(
            () => MigrationReceiver.Receive(listener, new ReceiveOptions { Channels = announced }, devices, null, scope));

        // Where the receiver fails, so does the source, and the receiver's failure is the one to see.
        var broken = Record.Exception(() => source.Send(listener.Endpoint));
        var migration = receiver.Result("the receipt");
        Assert.Null(broken);

        Assert.Equal(Enumerable.Range(0, Channels), migration.Channels.Select(c => c.Id));
        Assert.Equal(source.SentBytes, migration.Channels.Select(c => c.Bytes));
        Assert.Equal(Devices.Length * (PacketsEach + 1), migration.Channels.Sum(c => c.DevicePackets));
        Assert.Empty(migration.Warnings);
        Assert.Equal(Devices.Select(d => (d.IdStr, d.InstanceId)), devices.Devices.Select(d => (d.Summary.IdStr, d.Summary.InstanceId)));
        for (int i = 0; i < Devices.Length; i++)
        {
            var (summary, sink) = devices.Devices[i];
            Assert.Equal(source.State(i), ((MemorySink)sink).Data.ToArray());
            Assert.Equal(HandMade.Config(i), ((MemorySink)sink).Config);
            Assert.Equal((PacketsEach + 1, i * 1000), (summary.Packets, summary.PrecopyBytes));
        }
    }

    [Fact]
    public void The_id_after_the_last_possible_one_is_refused_though_no_number_of_channels_was_said()
    {
        var capture = new EditedCapture(Capture.ConfigFirst);
        capture.Channels[0].Init[24] = Channels;
        var failure = Assert.Throws<MultifdException>(() => Reception.Run(capture.Streams()));
        Assert.Equal(MultifdError.ChannelIdOutOfRange, failure.Reason);
        Assert.Contains("id 255, with 255 channels the ids go from 0 to 254", failure.Message);
    }

    /// <summary>Opens its connections and deals its packets to them in an order of chance; its main stream continues in between.</summary>
    private sealed class Source(Random random)
    {
        private readonly byte[][] _precopy = [.. Devices.Select((_, i) => Bytes(random, i * 1000))];
        private readonly byte[][][] _packets =
            [.. Devices.Select(_ => Enumerable.Range(0, PacketsEach).Select(_ => Bytes(random, random.Next(1, 300))).ToArray())];

        internal long[] SentBytes { get; } = new long[Channels];

        internal byte[] State(int device) => [.. _precopy[device], .. _packets[device].SelectMany(p => p)];

        internal void Send(Endpoint target)
        {
            int[] order = [.. Enumerable.Range(0, Channels + 1)];
            random.Shuffle(order);
            var connections = new NetworkStream[Channels + 1];
            try
            {
                foreach (int i in order)
                {
                    connections[i] = HandMade.Connect(target);
                }

                Write(connections[..Channels], connections[Channels]);
            }
            finally
            {
                Array.ForEach(connections, c => c?.Dispose());
            }
        }

        // Every channel has its share; what a channel carries first has the channel's init message before it.
        private void Write(NetworkStream[] channels, NetworkStream main)
        {
            byte[][] packets = [.. Devices.SelectMany((device, d) => _packets[d].Select((data, i) => HandMade.Packet(device, i, data))
                .Append(HandMade.Packet(device, PacketsEach, HandMade.Config(d), isConfig: true)))];
            random.Shuffle(packets);
            int[] dealt = [.. packets.Select((_, i) => i % Channels)];
            random.Shuffle(dealt);
            var rest = new Queue<Action<MainStreamWriter>>(MainStream());
            var writer = new MainStreamWriter(main);
            int parts = rest.Count;
            for (int i = 0; i < packets.Length; i++)
            {
                // The main stream ends when two thirds of the packets have been sent.
                if (rest.Count > 0 && i % (packets.Length * 2 / 3 / parts) == 0)
                {
                    rest.Dequeue()(writer);
                }

                int id = dealt[i];
                byte[] bytes = SentBytes[id] == 0 ? [.. HandMade.Init(id), .. packets[i]] : packets[i];
                channels[id].Write(bytes);
                SentBytes[id] += bytes.Length;
            }

            Assert.Empty(rest);
        }

        private IEnumerable<Action<MainStreamWriter>> MainStream() =>
        [
            w => w.Begin([]),
            .. Devices.Select(d => (Action<MainStreamWriter>)(w => w.Section(SectionKind.Start, d, HandMade.Setup()))),
            .. Devices.Select((d, i) => (Action<MainStreamWriter>)(w => w.Section(SectionKind.Part, d, HandMade.Data(_precopy[i])))),
            w => w.StartSwitchover(),
            w => w.End(),
        ];

        private static byte[] Bytes(Random random, int length)
        {
            byte[] bytes = new byte[length];
            random.NextBytes(bytes);
            return bytes;
        }
    }
}
