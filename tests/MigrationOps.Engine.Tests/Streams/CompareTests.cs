using System.Buffers.Binary;
using System.Globalization;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.Tests.Streams;

/// <summary>The rules by which a stream loads where another one was written: one device, its fields and its bytes on either side.</summary>
public class CompareTests
{
    private const string U8 = """{"name":"NAME","type":"uint8","size":1}""";
    private const string U32 = """{"name":"NAME","type":"uint32","size":4}""";

    [Fact]
    public void Fields_of_another_name_and_the_same_width_load()
        => Assert.Empty(Compare([1, 2, 3], Fields(Field(U8, "a"), Field(U8, "b"), Field(U8, "c")), [1, 2, 3], Fields(Field(U8, "a"), Field(U8, "x"), Field(U8, "c"))));

    [Fact]
    public void Bytes_that_one_release_skips_may_bear_names_in_the_other()
    {
        string skipped = Fields(Field(U8, "a"), """{"name":"unused","type":"unused_buffer","size":5}""");
        string named = Fields(Field(U8, "a"), Field(U32, "x"), Field(U8, "y"));
        Assert.Empty(Compare(new byte[6], skipped, new byte[6], named));
        Assert.Empty(Compare(new byte[6], named, new byte[6], skipped));
    }

    [Fact]
    public void A_structure_has_no_head_on_the_wire()
        => Assert.Empty(Compare(new byte[2], Fields(Field(U8, "a"), Field(U8, "b")),
            new byte[2], """{"name":"s","type":"struct","struct":{"vmsd_name":"x","version":9,"fields":[{"name":"a","type":"uint8","size":1},{"name":"b","type":"uint8","size":1}]},"size":2}"""));

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_field_on_one_side_only_is_an_error_where_nothing_before_it_differs(bool mine)
    {
        string with = Fields(Field(U8, "a"), Field(U32, "x"), Field(U8, "b")), without = Fields(Field(U8, "a"), Field(U8, "b"));
        var found = Assert.Single(mine ? Compare(new byte[6], with, new byte[2], without) : Compare(new byte[2], without, new byte[6], with));
        Assert.Equal(("Error", "x"), (found.Severity, found.Field));
    }

    [Fact]
    public void A_field_on_one_side_only_depends_where_the_state_before_it_differs()
        => Assert.Equal("Warning", Assert.Single(Compare([2, 9, 9, 9, 9], Fields(Field(U8, "mode"), Field(U32, "x")), [1], Field(U8, "mode"))).Severity);

    [Fact]
    public void A_flag_before_a_field_tells_that_it_is_there()
        => Assert.Empty(Compare([1, 9, 9, 9, 9], Fields(Field(U8, "is_set"), Field(U32, "x")), [0], Field(U8, "is_set")));

    [Fact]
    public void The_number_of_elements_must_be_told_by_the_stream()
    {
        static string Array(int count) => $$"""{"name":"n","type":"uint8","size":1},{"name":"e","array_len":{{count}},"type":"uint16","size":2}""";
        Assert.Empty(Compare([2, 0, 0, 0, 0], Array(2), [3, 0, 0, 0, 0, 0, 0], Array(3)));
        var found = Assert.Single(Compare([0, 0, 0, 0, 0], Array(2), [0, 0, 0, 0, 0, 0, 0], Array(3)));
        Assert.Equal(("Error", "e", "2", "3"), (found.Severity, found.Field, found.Reference, found.Difference));
    }

    [Fact]
    public void A_version_in_a_field_tells_which_side_knows_more()
    {
        string with = Fields(Field(U8, "mig_version_id"), Field(U8, "x")), without = Field(U8, "mig_version_id");
        Assert.Empty(Compare([7], without, [8, 0], with));
        Assert.Equal("Error", Assert.Single(Compare([8, 0], with, [7], without)).Severity);
    }

    [Fact]
    public void Values_that_must_be_equal_are_errors_without_being_asked_for()
    {
        string field = """{"name":"n","type":"uint8 equal","size":1}""";
        var found = Assert.Single(Compare([1], field, [4], field));
        Assert.Equal(("Error", "n", "1", "4"), (found.Severity, found.Field, found.Reference, found.Difference));
    }

    [Fact]
    public void Elements_that_say_the_same_are_one_line_with_a_count()
    {
        string fields = """{"name":"n","array_len":3,"type":"uint8 equal","size":1}""";
        var found = Assert.Single(Compare([1, 1, 1], fields, [4, 4, 4], fields));
        Assert.Equal(("n[0]", 3), (found.Field, found.Count));
    }

    [Fact]
    public void Errors_come_first()
        => Assert.Equal(["Error", "Value"], Compare([1, 1], Fields(Field(U8, "a"), """{"name":"n","type":"uint8 equal","size":1}"""),
            [2, 4], Fields(Field(U8, "a"), """{"name":"n","type":"uint8 equal","size":1}"""), values: true).Select(d => d.Severity).Distinct());

    [Theory]
    [InlineData(0x9a, "MSI-X table size", "0x02 (3 vectors)", "0x03 (4 vectors)")]
    [InlineData(0x00, "vendor id", "0x1102", "0x1103")]
    [InlineData(0x06, "status", "0x10", "0x00")]
    [InlineData(0x34, "capability list", "0x98", "0x00")]
    [InlineData(0x0e, "header type", "0x80", "0x00")]
    public void A_byte_of_the_pci_configuration_that_the_guest_cannot_write_is_an_error(int offset, string name, string mine, string theirs)
    {
        byte[] a = Config(), b = Config();
        (a[offset], b[offset]) = ((byte, byte))(offset switch
        {
            0x9a => (2, 3),
            0x00 => (2, 3),
            0x06 => (0x10, 0),
            0x34 => (0x98, 0),
            _ => (0x80, 0),
        });
        var found = Assert.Single(CompareConfig(a, b));
        Assert.Contains(string.Create(CultureInfo.InvariantCulture, $"config byte 0x{offset:x}, {name}"), found.Detail, StringComparison.Ordinal);
        Assert.Equal(("Error", mine, theirs), (found.Severity, found.Reference, found.Difference));
    }

    [Theory]
    [InlineData(0x04)]
    [InlineData(0x06, 0x20)]
    [InlineData(0x10, 0xf0)]
    [InlineData(0x2c)]
    [InlineData(0x3c)]
    [InlineData(0x50)]
    [InlineData(0x9b, 0xc0)]
    public void What_the_guest_writes_into_the_pci_configuration_is_no_difference(int offset, byte bits = 0xff)
    {
        byte[] a = Config(), b = Config();
        a[offset] ^= bits;
        Assert.Empty(CompareConfig(a, b));
        Assert.Equal(["Value"], CompareConfig(a, b, values: true).Select(d => d.Severity));
    }

    [Theory]
    [InlineData("paused", null)]
    [InlineData("running", null)]
    [InlineData("debug", "no QEMU takes over")]
    [InlineData("nonsense", "there is no such run state")]
    public void A_run_state_that_no_qemu_takes_over_is_an_error(string state, string? detail)
    {
        const string Fields = """{"name":"size","type":"uint32","size":4},{"name":"runstate","type":"buffer","size":100}""";
        byte[] body = new byte[104], other = new byte[104];
        System.Text.Encoding.ASCII.GetBytes(state).CopyTo(body, 4);
        "paused"u8.CopyTo(other.AsSpan(4));
        var found = Compare(body, Fields, other, Fields, device: "globalstate");
        Assert.Equal(detail is null ? 0 : 1, found.Count);
        Assert.All(found, d => Assert.Contains(detail!, d.Detail, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(new long[] { 1, 2 }, new long[] { 1, 2, 3 }, false)]
    [InlineData(new long[] { 1, 2, 3 }, new long[] { 1, 3 }, true)]
    [InlineData(new long[] { 1, 9 }, new long[] { 1, 2 }, false)]
    public void An_arm_register_that_the_destination_lacks_is_an_error(long[] mine, long[] theirs, bool isError)
        => Assert.Equal(isError, Compare(Registers(mine), RegisterFields(mine.Length), Registers(theirs), RegisterFields(theirs.Length), device: "cpu")
            .Any(d => d.Severity == "Error" && d.Field == "cpreg_vmstate_indexes"));

    [Fact]
    public void A_register_that_says_what_an_arm_cpu_is_must_be_equal()
    {
        const long MainId = 0x6030_0000_0013_c000, Counter = 0x6030_0000_0013_df01;
        byte[] mine = Registers([MainId, Counter]), theirs = Registers([MainId, Counter]);
        mine[^1] = 7;
        Assert.Empty(Compare(mine, RegisterFields(2), theirs, RegisterFields(2), device: "cpu"));
        mine[^9] = 7;
        Assert.Equal(("Error", "MIDR_EL1"), Compare(mine, RegisterFields(2), theirs, RegisterFields(2), device: "cpu").Select(d => (d.Severity, d.Field)).Single());
    }

    [Theory]
    [InlineData("x", 0x1000, "x", 0x1000, null)]
    [InlineData("x", 0x1000, "x", 0x2000, "Error")]
    [InlineData("x", 0x1000, "y", 0x1000, "Error")]
    [InlineData("/rom@etc/acpi/tables", 0x2000, "/rom@etc/acpi/tables", 0x1000, null)]
    [InlineData("/rom@genroms/a.bin", 0x1000, "/rom@genroms/a.bin", 0x2000, null)]
    [InlineData("/rom@genroms/a.bin", 0x2000, "/rom@genroms/a.bin", 0x1000, "Error")]
    public void Ram_blocks_have_their_name_and_their_size(string name, long length, string nameThere, long lengthThere, string? severity)
    {
        byte[] a = new StreamBuilder().Configuration("pc").RamList((name, length)).EndRam().End(FieldTests.Json("d", "")).Bytes;
        byte[] b = new StreamBuilder().Configuration("pc").RamList((nameThere, lengthThere)).EndRam().End(FieldTests.Json("d", "")).Bytes;
        Assert.Equal(severity is null ? [] : [severity], MigrationStreams.Compare(FieldTests.Input(a), FieldTests.Input(b), values: false).Where(d => d.Severity != "Value").Select(d => d.Severity));
    }

    [Theory]
    [InlineData("\"version_id\":1,\"minimum_version_id\":1", "{\"field\":\"a\",\"version_id\":0,\"field_exists\":false,\"size\":1}", null)]
    [InlineData("\"version_id\":1,\"minimum_version_id\":1", "{\"field\":\"b\",\"version_id\":0,\"field_exists\":false,\"size\":1}", null)]
    [InlineData("\"version_id\":1,\"minimum_version_id\":1", "{\"field\":\"a\",\"version_id\":0,\"field_exists\":false,\"size\":4}", "Error")]
    [InlineData("\"version_id\":1,\"minimum_version_id\":1", "{\"field\":\"a\",\"version_id\":0,\"field_exists\":false,\"size\":1},{\"field\":\"b\",\"version_id\":2,\"field_exists\":false,\"size\":1}", null)]
    [InlineData("\"version_id\":1,\"minimum_version_id\":1", "{\"field\":\"a\",\"version_id\":0,\"field_exists\":false,\"size\":1},{\"field\":\"b\",\"version_id\":0,\"field_exists\":true,\"size\":1}", null)]
    [InlineData("\"version_id\":1,\"minimum_version_id\":1", "{\"field\":\"a\",\"version_id\":0,\"field_exists\":false,\"num\":1,\"size\":1},{\"field\":\"b\",\"version_id\":0,\"field_exists\":false,\"size\":1}", "Error")]
    [InlineData("\"version_id\":2,\"minimum_version_id\":2", "{\"field\":\"a\",\"version_id\":0,\"field_exists\":false,\"size\":1}", "Error")]
    [InlineData("\"version_id\":0,\"minimum_version_id\":0", "{\"field\":\"a\",\"version_id\":0,\"field_exists\":false,\"size\":1}", "Error")]
    public void A_dump_s_layout_reads_the_bytes_or_does_not(string versions, string fields, string? severity)
    {
        string dump = $$"""{"vmschkmachine":{"Name":""},"d":{"Name":"d",{{versions}},"Description":{"name":"d",{{versions}},"Fields":[{{fields}}]} } }""";
        byte[] stream = FieldTests.Stream([1], FieldTests.Json("d", Field(U8, "a")));
        Assert.Equal(severity is null ? [] : [severity], MigrationStreams.CompareWithDumpText(FieldTests.Input(stream), dump.Replace("\"Name\":\"\"", "\"Name\":\"pc\"", StringComparison.Ordinal))
            .Where(d => d.Device == "d").Select(d => d.Severity));
    }

    private static string Field(string form, string name) => form.Replace("NAME", name, StringComparison.Ordinal);

    private static string Fields(params string[] fields) => string.Join(',', fields);

    private static IReadOnlyList<MigrationStreamDifference> Compare(byte[] mine, string fields, byte[] theirs, string fieldsThere, bool values = false, string device = "d")
        => MigrationStreams.Compare(FieldTests.Input(FieldTests.Stream(mine, FieldTests.Json(device, fields), device)),
            FieldTests.Input(FieldTests.Stream(theirs, FieldTests.Json(device, fieldsThere), device)), values);

    private static IReadOnlyList<MigrationStreamDifference> CompareConfig(byte[] mine, byte[] theirs, bool values = false)
    {
        const string Config = """{"name":"config","type":"pci config","size":256}""";
        return Compare(mine, Config, theirs, Config, values);
    }

    // A device with a 64-bit BAR and MSI-X with 3 vectors at 0x98.
    private static byte[] Config()
    {
        var config = new byte[256];
        (config[0x00], config[0x01], config[0x02]) = (0x34, 0x11, 0x41);
        config[0x06] = 0x10;
        config[0x10] = 0x0c;
        config[0x34] = 0x98;
        (config[0x98], config[0x9a]) = (0x11, 0x02);
        return config;
    }

    private static string RegisterFields(int count) => string.Join(',', """{"name":"cpreg_vmstate_array_len","type":"uint32","size":4}""",
        $$"""{"name":"cpreg_vmstate_indexes","array_len":{{count}},"type":"uint64","size":8}""", $$"""{"name":"cpreg_vmstate_values","array_len":{{count}},"type":"uint64","size":8}""");

    private static byte[] Registers(long[] indexes)
    {
        var body = new byte[4 + (16 * indexes.Length)];
        BinaryPrimitives.WriteInt32BigEndian(body, indexes.Length);
        for (int i = 0; i < indexes.Length; i++)
        {
            BinaryPrimitives.WriteInt64BigEndian(body.AsSpan(4 + (8 * i)), indexes[i]);
        }

        return body;
    }
}
