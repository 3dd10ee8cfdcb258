using System.Buffers;
using FsCheck;
using FsCheck.Fluent;
using MigrationOps.Engine.Cpr;
using static MigrationOps.Engine.Tests.Cpr.CprBytes;
using Property = MigrationOps.Engine.Tests.Support.Property;

namespace MigrationOps.Engine.Tests.Cpr;

public class CprStateWalkerTests
{
    private static readonly string[] s_namesOf100 =
        ["/rom@etc/acpi/rsdp", "/rom@etc/table-loader", "/rom@etc/acpi/tables", "pc.rom", "pc.bios", "m0"];

    [Fact]
    public void The_state_of_qemu_10_0_decodes_to_its_entries_newest_first()
    {
        var walker = Decode(Vector("qemu-10.0-q35.bin"));
        Assert.Equal(s_namesOf100, walker.Entries.Select(entry => entry.Name.ToString()));
        Assert.All(walker.Entries, entry => Assert.Equal(0, entry.Id));
        Assert.Equal(Enumerable.Range(0, 6), walker.Entries.Select(entry => entry.Descriptor));
        Assert.Equal(8, walker.Entries[0].Offset);
        Assert.Null(walker.VfioDevices);
    }

    [Fact]
    public void The_state_of_qemu_11_1_has_a_section_of_vfio_devices()
    {
        var walker = Decode(Vector("qemu-11.1-q35.bin"));
        Assert.Equal(s_namesOf100.Order(), walker.Entries.Select(entry => entry.Name.ToString()).Order());
        Assert.Empty(walker.VfioDevices!);
    }

    [Fact]
    public void The_state_of_cpr_exec_has_the_numbers_of_the_descriptors()
    {
        var walker = Decode(Vector("qemu-11.1-q35-exec.bin"), CprMode.Exec);
        Assert.Equal([22, 20, 18, 21, 12, 19], walker.Entries.Select(entry => entry.Descriptor));
        Assert.Empty(walker.VfioDevices!);
    }

    [Theory]
    [InlineData("qemu-10.0-q35.bin", CprMode.Transfer)]
    [InlineData("qemu-10.0-q35-vga-net.bin", CprMode.Transfer)]
    [InlineData("qemu-11.1-q35.bin", CprMode.Transfer)]
    [InlineData("qemu-11.1-q35-exec.bin", CprMode.Exec)]
    internal void A_decoded_state_encodes_to_qemus_bytes(string vector, CprMode mode)
    {
        byte[] bytes = Vector(vector);
        var walker = Decode(bytes, mode);
        var output = new ArrayBufferWriter<byte>();
        CprStateEncoder.WriteHeader(output);
        foreach (var entry in walker.Entries)
        {
            if (mode == CprMode.Exec)
            {
                CprStateEncoder.WriteExecEntry(output, entry.Name, entry.Id, entry.Descriptor);
            }
            else
            {
                CprStateEncoder.WriteEntry(output, entry.Name, entry.Id);
                output.Write(" "u8);
            }
        }

        CprStateEncoder.WriteEnd(output, walker.VfioDevices);
        Assert.Equal(bytes, output.WrittenSpan.ToArray());
    }

    [Fact]
    public void Vfio_devices_come_back_as_they_were_written()
    {
        CprVfioDevice[] devices =
        [
            new(CprName.Parse("0000:3a:00.0"), 7, 1, 2),
            new(CprName.Parse("0000:3b:00.1"), -1, 3, uint.MaxValue),
        ];
        var output = new ArrayBufferWriter<byte>();
        CprStateEncoder.WriteHeader(output);
        CprStateEncoder.WriteEnd(output, devices);
        Assert.Equal(devices, Decode(output.WrittenSpan).VfioDevices!);
    }

    [Theory]
    [InlineData("qemu-10.0-q35.bin", CprMode.Transfer)]
    [InlineData("qemu-11.1-q35.bin", CprMode.Transfer)]
    [InlineData("qemu-11.1-q35-exec.bin", CprMode.Exec)]
    internal void A_state_truncated_at_any_byte_is_an_error_with_the_offset(string vector, CprMode mode)
    {
        byte[] bytes = Vector(vector);
        // Behind the list of descriptors a state of 10.0 is complete; the section is what 11.1 adds.
        int complete = bytes.AsSpan().IndexOf("\u0005\u0015CprState"u8);
        for (int length = 0; length < bytes.Length; length++)
        {
            if (length == complete)
            {
                continue;
            }

            var error = Assert.Throws<CprException>(() => Decode(bytes.AsSpan(0, length), mode));
            Assert.Equal(CprError.Truncated, error.Reason);
            Assert.Equal(length, error.ByteOffset);
        }
    }

    [Fact]
    public void Any_split_of_the_bytes_gives_the_same_entries()
    {
        byte[] bytes = Vector("qemu-11.1-q35.bin");
        var whole = Decode(bytes);
        Property.Holds<PositiveInt[]>(cuts =>
        {
            var walker = new CprStateWalker(CprMode.Transfer, "test");
            int position = 0;
            foreach (var cut in cuts)
            {
                int length = Math.Min(cut.Get, bytes.Length - position);
                walker.Feed(bytes.AsSpan(position, length), last: false);
                position += length;
            }

            walker.Feed(bytes.AsSpan(position), last: false);
            walker.Feed([], last: true);
            return walker.Entries.SequenceEqual(whole.Entries) && walker.Offset == bytes.Length;
        });
    }

    [Fact]
    public void Any_split_of_malformed_bytes_gives_the_same_error_at_the_same_offset()
    {
        foreach (var row in Malformed)
        {
            byte[] bytes = row.Data.Item2;
            var whole = Assert.Throws<CprException>(() => Decode(bytes));
            var single = Assert.Throws<CprException>(() =>
            {
                var walker = new CprStateWalker(CprMode.Transfer, "test");
                foreach (byte value in bytes)
                {
                    walker.Feed([value], last: false);
                }

                walker.Feed([], last: true);
            });
            Assert.Equal((whole.Reason, whole.ByteOffset), (single.Reason, single.ByteOffset));
        }
    }

    [Fact]
    public void Random_bytes_never_give_anything_but_a_named_error()
    {
        Property.Holds<byte[]>(bytes =>
        {
            try
            {
                Decode(Join(Header(), bytes));
                return true;
            }
            catch (CprException e)
            {
                return e.ByteOffset is >= 0;
            }
        });
    }

    public static TheoryData<string, byte[], CprError, long> Malformed => new()
    {
        { "another magic", Join(Header(magic: 0x51435053), [0]), CprError.BadMagic, 0 },
        { "a main channel", Join(Header(magic: 0x5145564d, version: 3)), CprError.BadMagic, 0 },
        { "version 2", Join(Header(version: 2), [0]), CprError.UnsupportedVersion, 4 },
        { "version 0", Join(Header(version: 0), [0]), CprError.UnsupportedVersion, 4 },
        { "marker 2", Join(Header(), Element("a\0", 0, marker: 2)), CprError.InvalidMarker, 8 },
        { "namelen 0", Join(Header(), Element("", 0, length: 0)), CprError.InvalidName, 9 },
        { "namelen 2^31", Join(Header(), Element("a\0", 0, length: 0x80000000)), CprError.NameTooLong, 9 },
        { "namelen 4098", Join(Header(), Element("a\0", 0, length: 4098)), CprError.NameTooLong, 9 },
        { "only a NUL", Join(Header(), Element("\0", 0)), CprError.InvalidName, 13 },
        { "no NUL", Join(Header(), Element("abc", 0)), CprError.InvalidName, 13 },
        { "NUL inside", Join(Header(), Element("a\0c\0", 0)), CprError.InvalidName, 13 },
        { "another dummy byte", Join(Header(), Element("a\0", 0, dummy: 0x21)), CprError.InvalidMarker, 19 },
        { "same key twice", Join(Header(), Element("a\0", 7), Element("b\0", 7), Element("a\0", 7)), CprError.DuplicateEntry, 32 },
        { "bytes behind the end", Join(Header(), [0, 9]), CprError.TrailingData, 9 },
        { "bytes behind the section", Join(Header(), [0], Section("CprState/vfio devices", 1, 0, 0)), CprError.TrailingData, 37 },
        { "a second section", Join(Header(), [0], Section("CprState/vfio devices", 1, 0), Section("x", 1)), CprError.TrailingData, 37 },
        { "an unknown section", Join(Header(), [0], Section("CprState/pets", 1, 0)), CprError.UnsupportedSection, 9 },
        { "the section in version 2", Join(Header(), [0], Section("CprState/vfio devices", 2, 0)), CprError.UnsupportedSection, 9 },
        { "a section without a name", Join(Header(), [0], [5, 0, 0, 0, 0, 1]), CprError.InvalidName, 9 },
        { "marker 3 in the section", Join(Header(), [0], Section("CprState/vfio devices", 1, 3)), CprError.InvalidMarker, 36 },
        { "a device's namelen 0", Join(Header(), [0], Section("CprState/vfio devices", 1, 1, 0, 0, 0, 0)), CprError.InvalidName, 37 },
        { "nothing at all", [], CprError.Truncated, 0 },
    };

    [Theory]
    [MemberData(nameof(Malformed))]
    public void A_malformed_state_is_a_named_error_at_its_offset(string what, byte[] bytes, CprError expected, long offset)
    {
        var error = Assert.Throws<CprException>(() => Decode(bytes));
        Assert.True(expected == error.Reason, $"{what}: {error.Message}");
        Assert.Equal(offset, error.ByteOffset);
        Assert.Equal("test", error.Peer);
        Assert.NotEmpty(error.RecommendedAction);
        Assert.Equal("Cpr" + expected, error.ErrorId);
    }

    [Fact]
    public void The_same_name_with_another_id_is_another_entry()
        => Assert.Equal(2, Decode(Join(Header(), Element("a\0", 0), Element("a\0", 1), [0])).Entries.Count);

    [Fact]
    public void A_name_of_4096_bytes_and_one_that_is_not_text_are_kept()
    {
        string longest = new('n', 4096);
        var walker = Decode(Join(Header(), Element(longest + "\0", -1), Element("r\u00ff\0", int.MaxValue), [0]));
        Assert.Equal(longest, walker.Entries[0].Name.ToString());
        Assert.Equal((@"r\xff", int.MaxValue), (walker.Entries[1].Name.ToString(), walker.Entries[1].Id));
    }

    [Fact]
    public void A_negative_descriptor_number_is_an_error_in_cpr_exec()
    {
        byte[] bytes = Vector("qemu-11.1-q35-exec.bin");
        bytes[36] = 0xff;
        var error = Assert.Throws<CprException>(() => Decode(bytes, CprMode.Exec));
        Assert.Equal((CprError.MissingDescriptor, 36), (error.Reason, error.ByteOffset));
    }

    [Fact]
    public void Entries_without_end_are_refused_before_memory_runs_out()
    {
        var walker = new CprStateWalker(CprMode.Transfer, "test");
        walker.Feed(Header(), last: false);
        var error = Assert.Throws<CprException>(() => FeedAll(walker, id => Element("a\0", id)));
        Assert.Equal(CprError.TooManyEntries, error.Reason);
        Assert.Equal(65_536, walker.Entries.Count);
    }

    [Fact]
    public void Long_names_without_end_are_refused_before_memory_runs_out()
    {
        var walker = new CprStateWalker(CprMode.Transfer, "test");
        walker.Feed(Header(), last: false);
        string name = new string('n', 4096) + "\0";
        var error = Assert.Throws<CprException>(() => FeedAll(walker, id => Element(name, id)));
        Assert.Equal(CprError.TooManyEntries, error.Reason);
        Assert.True(walker.Offset < 17 << 20);
    }

    private static void FeedAll(CprStateWalker walker, Func<int, byte[]> element)
    {
        for (int id = 0; id < 1_000_000; id++)
        {
            walker.Feed(element(id), last: false);
        }
    }
}
