using System.Buffers;
using System.Text;
using FsCheck.Fluent;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Streams;

/// <summary>Whatever a stream announces, reading it takes no more memory than allowed.</summary>
public class StreamLimitTests
{
    private const long Limit = 4 << 20;

    // What the reader itself is: the buffer, and what the test host allocates around it.
    private const long Overhead = 3 << 20;

    private delegate void Writer(WireWriter output);

    public static TheoryData<string> Attacks => [.. Streams.Keys];

    private static readonly Dictionary<string, Writer> Streams = new()
    {
        ["a RAM block of 8 EiB with pages far apart"] = w =>
        {
            Ram(w, ("m", 1L << 62));
            for (long i = 0; i < 20_000; i++)
            {
                w.WriteUInt64((ulong)(i << 47) >> 2 & ~0xfffUL | (i == 0 ? 0x02UL : 0x22UL));
                if (i == 0)
                {
                    w.WriteByte(1);
                    w.WriteByte((byte)'m');
                }

                w.WriteByte(0);
            }
        },
        ["thousands of RAM blocks"] = w => Ram(w, [.. Enumerable.Range(0, 8_000).Select(i => ($"block-with-a-rather-long-name-{i}", 4096L))]),
        ["hundreds of thousands of sections"] = w =>
        {
            Ram(w, ("m", 4096));
            w.WriteUInt64(0x10);
            Footer(w, 1);
            for (int i = 0; i < 200_000; i++)
            {
                w.WriteByte(2);
                w.WriteUInt32(1);
                w.WriteUInt64(0x10);
                Footer(w, 1);
            }
        },
        ["twenty thousand commands"] = w =>
        {
            for (int i = 0; i < 20_000; i++)
            {
                w.WriteByte(8);
                w.WriteUInt16(10);
                w.WriteUInt16(20);
                w.WriteBytes(new byte[20]);
            }
        },
        ["sixty thousand handlers"] = w =>
        {
            for (uint i = 0; i < 60_000; i++)
            {
                Section(w, 4, i, "device-with-a-name");
                Footer(w, i);
            }
        },
        ["a description that announces 4 GiB"] = w =>
        {
            w.WriteByte(0);
            w.WriteByte(6);
            w.WriteUInt32(uint.MaxValue);
        },
        ["a description of many fields"] = w => Description(w,
            "{\"page_size\":4096,\"devices\":[{\"name\":\"d\",\"instance_id\":0,\"vmsd_name\":\"d\",\"version\":1,\"fields\":["
            + string.Join(',', Enumerable.Range(0, 60_000).Select(i => $"{{\"name\":\"f{i}\",\"type\":\"t\",\"size\":0}}")) + "]}]}"),
        ["a description of an array of two thousand million elements"] = w => Description(w,
            "{\"page_size\":4096,\"devices\":[{\"name\":\"d\",\"instance_id\":0,\"vmsd_name\":\"d\",\"version\":1,\"fields\":["
            + "{\"name\":\"f\",\"array_len\":2000000000,\"type\":\"uint8\",\"size\":0}]}]}", device: true),
        ["a description that nests for ever"] = w => Description(w, string.Concat(Enumerable.Repeat("{\"configuration\":", 300_000))),
        ["a mapped-ram block of 4 EiB"] = w =>
        {
            w.WriteByte(7);
            w.WriteUInt32(1);
            w.WriteByte((byte)'q');
            w.WriteByte(5);
            w.WriteByte(26);
            w.WriteBytes("configuration/capabilities"u8);
            w.WriteUInt32(1);
            w.WriteUInt32(1);
            w.WriteByte(10);
            w.WriteBytes("mapped-ram"u8);
            Ram(w, ("m", 1L << 62));
        },
    };

    [Theory, MemberData(nameof(Attacks))]
    public void A_hostile_stream_costs_no_more_than_the_limit(string attack)
    {
        var output = new ArrayBufferWriter<byte>();
        var writer = WireWriter.BigEndian(output);
        writer.WriteUInt32(0x5145564d);
        writer.WriteUInt32(3);
        Streams[attack](writer);
        byte[] stream = output.WrittenSpan.ToArray();
        MigrationStreams.Test(Input(StreamVectors.Read("none-tcg.plain.stream")));

        long before = GC.GetAllocatedBytesForCurrentThread();
        var report = MigrationStreams.Test(Input(stream));
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.False(report.Passed);
        Assert.True(allocated < Limit + Overhead, $"{allocated:N0} bytes: {report.Checks[0]}");
    }

    [Fact]
    public void Bytes_that_are_anything_end_in_a_result_and_within_the_limit()
    {
        byte[] real = StreamVectors.Read("none-tcg.plain.stream");
        var edits = Gen.Zip(Gen.Choose(8, real.Length - 1), Gen.Choose(0, 255)).NonEmptyListOf();
        Property.Holds(edits, list =>
        {
            byte[] damaged = [.. real];
            foreach (var (offset, value) in list)
            {
                damaged[offset] = (byte)value;
            }

            long before = GC.GetAllocatedBytesForCurrentThread();
            MigrationStreams.Test(Input(damaged));
            return GC.GetAllocatedBytesForCurrentThread() - before < Limit + Overhead;
        }, tries: 300);
    }

    private static MigrationStreamInput Input(byte[] stream) => new() { Path = "hostile", Forward = new ForwardOnly(stream), MaxMemory = Limit };

    private static void Section(WireWriter w, byte type, uint id, string name)
    {
        w.WriteByte(type);
        w.WriteUInt32(id);
        w.WriteByte((byte)name.Length);
        w.WriteBytes(Encoding.ASCII.GetBytes(name));
        w.WriteUInt32(0);
        w.WriteUInt32(name == "ram" ? 4U : 1U);
    }

    private static void Footer(WireWriter w, uint id)
    {
        w.WriteByte(0x7e);
        w.WriteUInt32(id);
    }

    private static void Ram(WireWriter w, params (string Name, long Length)[] blocks)
    {
        Section(w, 1, 1, "ram");
        w.WriteUInt64((ulong)blocks.Sum(b => b.Length) | 4);
        foreach (var (name, length) in blocks)
        {
            w.WriteByte((byte)name.Length);
            w.WriteBytes(Encoding.ASCII.GetBytes(name));
            w.WriteUInt64((ulong)length);
        }
    }

    private static void Description(WireWriter w, string json, bool device = false)
    {
        if (device)
        {
            Section(w, 4, 0, "d");
            Footer(w, 0);
        }

        w.WriteByte(0);
        w.WriteByte(6);
        w.WriteUInt32((uint)json.Length);
        w.WriteBytes(Encoding.ASCII.GetBytes(json));
    }
}
