using System.Buffers;
using FsCheck.Fluent;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

public class FramingTests
{
    [Fact]
    public void The_head_of_a_real_stream_with_a_return_path_reads_as_it_was_sent()
    {
        byte[] stream = StreamVectors.Read("vfio-2dev.main.stream");
        var reader = WireReader.BigEndian(stream);
        Assert.True(ElementReader.TryReadHeader(ref reader));
        Assert.StartsWith("pc-", Next<StreamConfiguration>(ref reader).MachineType, StringComparison.Ordinal);
        Assert.Equal(StreamCommandId.OpenReturnPath, Next<StreamCommand>(ref reader).Id);
        Assert.Equal([0, 0, 0, 1], Next<StreamCommand>(ref reader).Data);
        Next<StreamSection>(ref reader);
    }

    private static T Next<T>(ref WireReader reader)
        where T : StreamElement
        => Assert.IsType<T>(ElementReader.TryRead(ref reader, out var element) ? element : null);

    [Fact]
    public void A_sent_stream_walks_as_a_migration_stream_to_its_last_byte()
    {
        var pair = new MigrationPair();
        pair.Device("whole", ScriptedDevice.Whole);
        pair.Device("whole", ScriptedDevice.Whole);
        pair.Succeed();
        var log = EventLog.Walk(pair.Sent);
        Assert.Equal("@8 configuration none  [] ", log.Lines[0]);
        Assert.Contains("@17 OpenReturnPath ", log.Lines);
        Assert.Contains("@22 Ping 00000001", log.Lines);
        Assert.Contains("@31 SwitchoverStart ", log.Lines);
        Assert.Contains("@36 Full 1 whole 0 v1 body@55", log.Lines);
        Assert.Contains("@74 Full 2 whole 1 v1 body@93", log.Lines);
        Assert.Equal(0, log.Trailing);
        var description = StreamDescription.Parse(System.Text.Encoding.UTF8.GetBytes(log.Description), new MemoryBudget());
        Assert.Equal([("whole", 0u), ("whole", 1u)], description.Devices.Select(d => (d.Name, d.InstanceId)));
        Assert.Equal(4096, description.PageSize);
        Assert.Equal(pair.Sent.Length, pair.SourceResult!.Bytes);
    }

    [Fact]
    public void Any_cutting_of_the_bytes_gives_the_same_elements()
    {
        var output = new ArrayBufferWriter<byte>();
        var entry = new SaveVmRegistry().Register("acme/nvram", 3, 2, new ScriptedDevice("x", new CallLog(), ScriptedDevice.Whole));
        ElementWriter.Configuration(output, "pc-q35-10.0");
        ElementWriter.Command(output, StreamCommandId.Ping, [1, 2, 3, 4]);
        foreach (var type in Enum.GetValues<SectionKind>())
        {
            entry.WriteHeader(output, type);
            ElementWriter.Footer(output, entry.SectionId);
        }

        ElementWriter.Eof(output);
        byte[] bytes = output.WrittenSpan.ToArray();
        string[] whole = Read(bytes, [bytes.Length]);
        Assert.Equal(11, whole.Length);
        var cuts = Gen.Choose(1, 40).NonEmptyListOf().Select(list => list.ToArray());
        Property.Holds(cuts, sizes => Read(bytes, sizes).SequenceEqual(whole));
    }

    [Fact]
    public void Any_bytes_give_an_element_or_a_named_error_and_never_consume_more_than_there_is()
    {
        Property.Holds(Gen.Choose(0, 255).Select(i => (byte)i).ArrayOf(), bytes =>
        {
            var reader = WireReader.BigEndian(bytes);
            try
            {
                bool none = !ElementReader.TryRead(ref reader, out _);
                return reader.Position <= bytes.Length && (!none || reader.Position == 0);
            }
            catch (StreamException e)
            {
                return e.ByteOffset <= bytes.Length;
            }
        }, tries: 2000);
    }

    private static string[] Read(byte[] bytes, int[] sizes)
    {
        var elements = new List<string>();
        int taken = 0;
        int given = 0;
        for (int i = 0; given < bytes.Length; i++)
        {
            given = Math.Min(bytes.Length, given + sizes[i % sizes.Length]);
            while (true)
            {
                var reader = WireReader.BigEndian(bytes.AsSpan(taken..given), taken);
                if (!ElementReader.TryRead(ref reader, out var element))
                {
                    break;
                }

                taken += reader.Position;
                elements.Add(element is StreamCommand command ? $"{command.Id} {Convert.ToHexString(command.Data)}"
                    : element is StreamConfiguration c ? c.MachineType
                    : element.ToString());
            }
        }

        return [.. elements];
    }
}
