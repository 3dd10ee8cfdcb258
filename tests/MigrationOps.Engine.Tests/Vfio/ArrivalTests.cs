using System.IO.Pipes;
using FsCheck.Fluent;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>
/// The strictest of sources: one thread that writes packets of several devices to several channels in any order, whole or
/// piece by piece, and waits whenever a channel is full. A receiver that ever waits for a packet on another channel, or for
/// the rest of one, stands still with it.
/// </summary>
public class ArrivalTests
{
    private const int Devices = 3;
    private const int PacketsEach = 12;
    private const int Channels = 3;

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void No_order_of_arrival_brings_the_channels_to_a_standstill(bool precopyEndsLast)
    {
        using var folder = new TestFolder();
        Property.Holds(Gen.Choose(0, int.MaxValue), seed => Run(seed, precopyEndsLast, folder.Path), tries: 25);
        Assert.Empty(Directory.GetFileSystemEntries(folder.Path));
    }

    private static void Run(int seed, bool precopyEndsLast, string spill)
    {
        var random = new Random(seed);
        AnonymousPipeServerStream[] pipes = [.. Enumerable.Range(0, Channels + 1).Select(_ => new AnonymousPipeServerStream(PipeDirection.Out))];
        Stream[] connections = [.. pipes.Select(p => new AnonymousPipeClientStream(PipeDirection.In, p.ClientSafePipeHandle))];
        byte[][] states = [.. Enumerable.Range(0, Devices).Select(_ => Fill(random, random.Next(PacketsEach * 40_000)))];
        var source = Task.Run(() => Send(random, pipes, states, precopyEndsLast));
        // Next to nothing fits: almost every packet goes through the spill file.
        var received = Reception.Run(connections, new ReassemblyOptions { MemoryBudget = 100_000, SpillDirectory = spill });
        Assert.True(source.Outcome());
        Assert.Equal(Devices, received.Devices.Count);
        foreach (var (summary, data, _) in received.Devices)
        {
            Assert.Equal(states[int.Parse(summary.IdStr.AsSpan(0, 1))], data);
            Assert.Equal(PacketsEach + 1, summary.Packets);
        }
    }

    private static bool Send(Random random, AnonymousPipeServerStream[] pipes, byte[][] states, bool precopyEndsLast)
    {
        var packets = states.SelectMany((state, device) => Enumerable.Range(0, PacketsEach + 1)
            .Select(index => Packet(device, index, state))).ToArray();
        random.Shuffle(packets);
        if (!precopyEndsLast)
        {
            SendMain(pipes[^1]);
        }

        for (int id = 0; id < Channels; id++)
        {
            pipes[id].Write(HandMade.Init(id));
        }

        // What is written next to which channel: packets, or pieces of them that keep their order within the channel.
        var writes = packets.Select(packet => (Channel: random.Next(Channels), Bytes: packet)).ToList();
        if (random.Next(2) == 0)
        {
            writes = Interleave(random, writes);
        }

        foreach (var (channel, bytes) in writes)
        {
            pipes[channel].Write(bytes);
        }

        foreach (var pipe in pipes[..Channels])
        {
            pipe.Dispose();
        }

        if (precopyEndsLast)
        {
            SendMain(pipes[^1]);
        }

        return true;
    }

    private static List<(int Channel, byte[] Bytes)> Interleave(Random random, List<(int Channel, byte[] Bytes)> packets)
    {
        var queues = packets.GroupBy(p => p.Channel, p => p.Bytes)
            .Select(g => (Channel: g.Key, Pieces: new Queue<byte[]>(g.SelectMany(b => b).Chunk(7000)))).ToList();
        var pieces = new List<(int, byte[])>();
        while (queues.Count > 0)
        {
            var queue = queues[random.Next(queues.Count)];
            pieces.Add((queue.Channel, queue.Pieces.Dequeue()));
            queues.RemoveAll(q => q.Pieces.Count == 0);
        }

        return pieces;
    }

    private static void SendMain(AnonymousPipeServerStream pipe)
    {
        var writer = new MainStreamWriter(pipe);
        writer.Begin([]);
        for (int i = 0; i < Devices; i++)
        {
            writer.Section(SectionKind.Start, SectionOf(i), HandMade.Setup());
        }

        writer.StartSwitchover();
        writer.End();
        pipe.Dispose();
    }

    private static StreamSection SectionOf(int device) => new(SectionKind.Start, (uint)device, $"{device}/vfio", 0, 1, 0, 0);

    private static byte[] Packet(int device, int index, byte[] state)
    {
        bool config = index == PacketsEach;
        int size = state.Length / PacketsEach;
        byte[] data = config ? ConfigState.Empty()
            : state[(index * size)..(index == PacketsEach - 1 ? state.Length : (index + 1) * size)];
        return HandMade.Packet(SectionOf(device), index, data, config);
    }

    private static byte[] Fill(Random random, int length)
    {
        byte[] bytes = new byte[length];
        random.NextBytes(bytes);
        return bytes;
    }
}
