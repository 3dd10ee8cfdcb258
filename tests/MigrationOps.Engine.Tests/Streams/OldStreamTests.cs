using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Streams;

/// <summary>Streams that say less of themselves than today's: no footers, no configuration, no description.</summary>
public class OldStreamTests
{
    [Theory]
    [InlineData("avr-uno.stream")]
    [InlineData("tricore.stream")]
    public void Pages_of_any_size_give_the_script_s_json(string name)
    {
        var json = new StringWriter();
        MigrationStreams.WriteAnalyzeJson(new MigrationStreamInput { Path = StreamVectors.PathOf(name) }, json);
        Assert.Equal(File.ReadAllText(StreamVectors.PathOf(name + ".analyze.json")), json.ToString());
        foreach (var input in new[] { new MigrationStreamInput { Path = StreamVectors.PathOf(name) }, Forward(StreamVectors.Read(name)) })
        {
            Assert.All(MigrationStreams.Test(input).Checks, c => Assert.True(c.Passed, c.ToString()));
        }
    }

    [Theory]
    [InlineData("avr-uno.no-footers.stream")]
    [InlineData("pc-2.2.stream")]
    public void Any_cutting_of_a_stream_without_footers_gives_the_same_walk(string name)
    {
        byte[] stream = StreamVectors.Read(name);
        var once = EventLog.Walk(stream);
        Assert.Contains(once.Lines, l => l.EndsWith("EOF", StringComparison.Ordinal));
        Assert.Equal(once.Lines, EventLog.Walk(stream, null, 1).Lines);
        Assert.Equal(once.Lines, EventLog.Walk(stream, null, 7, 1, 300).Lines);
        Assert.Equal(once.Lines, EventLog.Walk(stream, null, 4096).Lines);
    }

    [Fact]
    public void A_machine_of_2014_has_its_sections_and_its_memory()
    {
        // QEMU 7.2 -M pc-i440fx-2.2: no configuration, no footers, no description.
        var input = new MigrationStreamInput { Path = StreamVectors.PathOf("pc-2.2.stream") };
        var info = MigrationStreams.GetInfo(input);
        Assert.True(info.Complete, info.Failure);
        Assert.Equal(("", 32, 29), (info.MachineType, info.Sections.Length, info.Devices.Length));
        Assert.Equal(["timer", "cpu_common", "cpu", "kvm-tpr-opt", "apic"], info.Devices.Take(5).Select(d => d.IdStr));
        Assert.Equal("globalstate", info.Devices[^1].IdStr);
        Assert.All(info.RamBlocks, b => Assert.Equal(0, b.MissingPages));
        Assert.Equal(4, info.Notes.Length);
        var report = MigrationStreams.Test(input);
        Assert.Equal(["Description"], report.Checks.Where(c => !c.Passed).Select(c => c.Name));
        Assert.DoesNotContain(report.Checks, c => $"{c.Detail} {c.RecommendedAction}".Contains("damage", StringComparison.OrdinalIgnoreCase));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(5000)]
    public void The_end_of_a_last_section_that_nothing_marks_is_called_uncertain(int zeros)
    {
        byte[] stream = [.. new StreamBuilder().RamList(("a", 4096)).U64(0x10).Part(3, 1).U64(0x10).Section(4, 2, "first").Raw(1, 2, 3)
            .Section(4, 3, "second").Raw(4, 5, 6).U8(0).Bytes, .. new byte[zeros]];
        using var folder = new TestFolder();
        string path = Path.Combine(folder.Path, "vm.raw");
        File.WriteAllBytes(path, stream);
        var info = MigrationStreams.GetInfo(new MigrationStreamInput { Path = path });
        Assert.Equal([("first", 3L), ("second", 3L)], info.Devices.Select(d => (d.IdStr, d.Length)));
        Assert.Equal(zeros, info.TrailingBytes);
        Assert.Contains(info.Notes, n => n.Contains("the last one by the end of the file", StringComparison.Ordinal));
    }

    [Fact]
    public void A_name_in_a_device_s_state_is_no_header()
    {
        // What follows a type byte is an id that is in use, a text that is no handler's name, or a version that no layout has.
        byte[] state = StreamBuilder.Empty().U8(4).U32(2).Name("used id").U32(0).U32(1).U8(4).U32(9).Name("a\u0001b").U32(0).U32(1)
            .U8(4).U32(8).Name("version").U32(0).U32(70000).U8(1).U32(7).Name("no handler that iterates").U32(0).U32(1).Bytes;
        byte[] stream = new StreamBuilder().RamList(("a", 4096)).Zero(0, "a").U64(0x10).Part(3, 1).U64(0x10).Section(4, 2, "first").Raw(state)
            .Section(4, 3, "second").Raw(4).End(FieldTests.Json("x", "")).Bytes;
        var lines = EventLog.Walk(stream).Lines;
        Assert.Contains(lines, l => l.StartsWith($"end 2 {state.Length} ", StringComparison.Ordinal));
        Assert.Contains(lines, l => l.StartsWith("end 3 1 ", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(0x02UL)]
    [InlineData(0x10UL)]
    public void A_device_that_comes_before_the_iterations_of_ram_ends_there(ulong word)
    {
        // virtio-mem has such a section. Its state has what looks like a PART, of an unknown id or with an invalid word.
        byte[] state = StreamBuilder.Empty().U8(2).U32(9).U64(0x10).U8(2).U32(1).U64(0x11).U8(3).U32(1).U64(0x02).Name("b").Bytes;
        var stream = new StreamBuilder().RamList(("a", 4096)).U64(0x10).Section(4, 2, "virtio-mem-device-early").Raw(state).Part(2, 1).U64(word);
        stream = word == 0x10 ? stream : stream.Name("a").U8(0).U64(0x10);
        byte[] bytes = stream.Part(3, 1).U64(0x10).Section(4, 3, "d").Raw(1).End(FieldTests.Json("x", "")).Bytes;
        var log = EventLog.Walk(bytes);
        Assert.Contains(log.Lines, l => l.StartsWith($"end 2 {state.Length} ", StringComparison.Ordinal));
        Assert.Equal(log.Lines, EventLog.Walk(bytes, null, 1).Lines);
    }

    [Fact]
    public void A_footer_that_is_lost_later_is_damage_though_the_first_is_there()
    {
        byte[] stream = new StreamBuilder().RamList(("a", 4096)).U64(0x10).Footer(1).Part(3, 1).U64(0x10).Section(4, 2, "d").Footer(2).End().Bytes;
        Assert.Single(MigrationStreams.Test(Forward(stream)).Checks, c => c is { Name: "Structure", Passed: false } && c.Detail.Contains("found 0x04", StringComparison.Ordinal));
    }

    [Fact]
    public void What_iterating_handlers_of_other_targets_send_is_walked_by_its_own_marks()
    {
        // pseries: the table's size, then runs of entries until an empty one. s390: words with flags. "migrate -b": blocks of 1 MiB.
        var stream = new StreamBuilder().RamList(("a", 4096)).Zero(0, "a").U64(0x10)
            .Section(1, 2, "spapr/htab").U32(24).Section(1, 3, "s390-storage_attributes").U64(1).Section(1, 4, "block").U64((5 << 9) | 1).Name("d0").Raw(new byte[1 << 20]).U64(2)
            .Part(2, 2).U32(0).U32(7).U16(2).U16(3).Raw(new byte[32]).U32(0).U16(0).U16(0)
            .Part(2, 3).U64(0x5002).U64(3).Raw(9, 9, 9).U64(8).U64(1).Part(2, 4).U64((6 << 9) | 9).Name("d0").U64((100 << 9) | 4).U64(2)
            .Part(3, 1).U64(0x10).Part(3, 2).U32(-1).Part(3, 3).U64(8).Part(3, 4).U64(2).Section(4, 9, "d").Raw(1).End(FieldTests.Json("x", ""));
        var log = EventLog.Walk(stream.Bytes);
        Assert.Equal(["4", "8", $"{8 + 3 + (1 << 20) + 8}", "52", "35", "27"],
            log.Lines.Where(l => l.StartsWith("end ", StringComparison.Ordinal)).Skip(1).Take(6).Select(l => l.Split(' ')[2]));
        Assert.Contains(log.Lines, l => l.EndsWith("EOF", StringComparison.Ordinal));
        Assert.Equal(log.Lines, EventLog.Walk(stream.Bytes, null, 1000).Lines);
    }

    private static MigrationStreamInput Forward(byte[] stream) => new() { Path = "built", Forward = new ForwardOnly(stream) };
}
