using System.Text.Json;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Streams;

/// <summary>Every kind of field that a description can name.</summary>
public class FieldTests
{
    /// <summary>A description of one device with these fields.</summary>
    internal static string Json(string device, string fields, string more = "")
        => $"{{\"page_size\":4096,\"devices\":[{{\"name\":\"{device}\",\"instance_id\":0,\"vmsd_name\":\"{device}\",\"version\":1,\"fields\":[{fields}]{more}}}]}}";

    [Theory]
    [InlineData("uint8", "ff", "255")]
    [InlineData("int8", "ff", "-1")]
    [InlineData("uint16", "0102", "258")]
    [InlineData("int16", "fffe", "-2")]
    [InlineData("uint32", "ffffffff", "4294967295")]
    [InlineData("int32", "fffffffd", "-3")]
    [InlineData("int32 equal", "00000007", "7")]
    [InlineData("uint64", "8000000000000000", "9223372036854775808")]
    [InlineData("int64", "ffffffffffffffff", "-1")]
    [InlineData("bool", "01", "True")]
    [InlineData("bool", "00", "False")]
    [InlineData("timer", "ffffffffffffffff", "-1")]
    [InlineData("nullptr", "30", "nullptr")]
    [InlineData("buffer", "00ff10", "00ff10")]
    [InlineData("unused_buffer", "0000", "0000")]
    [InlineData("bitmap", "0102030405060708", "0102030405060708")]
    [InlineData("float64", "3ff0000000000000", "3ff0000000000000")]
    [InlineData("something new", "abcd", "abcd")]
    [InlineData("buffer", "", "")]
    public void A_field_has_its_value(string type, string hex, string value)
    {
        byte[] body = Convert.FromHexString(hex);
        var found = Decode(body, $"{{\"name\":\"f\",\"type\":\"{type}\",\"size\":{body.Length}}}")["f"]!;
        Assert.Equal(value, Convert.ToString(found.Value, System.Globalization.CultureInfo.InvariantCulture));
    }

    [Fact]
    public void Compressed_arrays_indexed_arrays_and_null_pointers_unfold()
    {
        var device = Decode([1, 2, 3, 0x30, 9, 8],
            """{"name":"a","array_len":3,"type":"uint8","size":1},{"name":"p","index":0,"type":"nullptr","size":1},{"name":"p","index":1,"type":"uint8","size":1},{"name":"b","type":"uint8","size":1}""");
        Assert.Equal(["a[0]", "a[1]", "a[2]", "p[0]", "p[1]", "b"], device.Fields.Select(f => f.Name));
        Assert.Equal([1UL, 2UL, 3UL, "nullptr", 9UL, 8UL], device.Fields.Select(f => f.Value!));
    }

    [Fact]
    public void Structs_lists_and_subsections_nest()
    {
        byte[] body = [7, 1, 0x11, 1, 0x22, 0, 5, 3, (byte)'d', (byte)'/', (byte)'s', 0, 0, 0, 2, 0xee];
        var device = Decode(body,
            """
            {"name":"s","type":"struct","struct":{"vmsd_name":"x","version":1,"fields":[{"name":"m","type":"uint8","size":1}]},"size":1},
            {"name":"q","type":"qtailq","vmsd_name":"e","version":1,"fields":[{"name":"v","type":"uint8","size":1}],"vmsd_name":"e","version":1,"fields":[{"name":"v","type":"uint8","size":1}],"size":5}
            """,
            ""","subsections":[{"vmsd_name":"d/s","version":2,"fields":[{"name":"t","type":"uint8","size":1}]}]""");
        Assert.Equal(7UL, device["s"]!["m"]!.Value);
        Assert.Equal([0x11UL, 0x22UL], device["q"]!.Fields.Select(f => f["v"]!.Value!));
        Assert.Equal(0xeeUL, device["d/s"]!["t"]!.Value);
    }

    [Theory]
    [InlineData("{\"name\":\"f\",\"type\":\"nullptr\",\"size\":1}", "31", "null pointer")]
    [InlineData("{\"name\":\"q\",\"type\":\"qtailq\",\"vmsd_name\":\"e\",\"version\":1,\"fields\":[],\"size\":2}", "0101", "list 'q' has more elements")]
    [InlineData("{\"name\":\"q\",\"type\":\"qtailq\",\"vmsd_name\":\"e\",\"version\":1,\"fields\":[],\"size\":2}", "0000", "list 'q' has fewer elements")]
    public void A_body_that_is_not_as_described_is_named(string fields, string hex, string message)
    {
        byte[] body = Convert.FromHexString(hex);
        byte[] stream = Stream(body, Json("d", fields));
        Assert.Contains(message, Assert.Throws<StreamException>(() => MigrationStreams.GetDevices(Input(stream), "d")).Message, StringComparison.Ordinal);
        Assert.False(MigrationStreams.Test(Input(stream)).Passed);
    }

    [Theory]
    [InlineData("d/t", 2, "expected the subsection 'd/s'")]
    [InlineData("d/s", 3, "has version 3, described is 2")]
    public void A_subsection_that_is_not_the_described_one_is_named(string name, int version, string message)
    {
        byte[] body = StreamBuilder.Empty().U8(5).Name(name).U32(version).Bytes;
        byte[] stream = Stream(body, Json("d", "", ",\"subsections\":[{\"vmsd_name\":\"d/s\",\"version\":2,\"fields\":[]}]"));
        Assert.Contains(message, Assert.Throws<StreamException>(() => MigrationStreams.GetDevices(Input(stream), (string?)null)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{\"name\":\"f\",\"type\":\"uint8\"}")]
    [InlineData("{\"name\":\"f\",\"type\":\"uint8\",\"size\":-1}")]
    [InlineData("{\"name\":\"f\",\"type\":\"uint8\",\"size\":1,\"array_len\":0}")]
    [InlineData("{\"name\":\"f\",\"type\":\"uint8\",\"size\":1,\"array_len\":2,\"index\":0}")]
    [InlineData("{\"name\":\"f\",\"type\":\"struct\",\"size\":1}")]
    [InlineData("{\"name\":\"f\",\"type\":\"struct\",\"struct\":{\"vmsd_name\":\"x\",\"version\":1,\"fields\":[]},\"size\":1}")]
    [InlineData("{\"name\":\"f\",\"type\":\"uint8\",\"size\":1,\"colour\":1}")]
    public void A_field_that_is_not_described_as_qemu_does_is_refused(string field)
    {
        var report = MigrationStreams.Test(Input(Stream([1], Json("d", field))));
        Assert.Contains(report.Checks, c => c is { Name: "Description", Passed: false } && c.Detail.StartsWith("The description has", StringComparison.Ordinal));
        Assert.Equal(StreamError.NoDescription, Assert.Throws<StreamException>(() => MigrationStreams.GetDevices(Input(Stream([1], Json("d", field))), (string?)null)).Reason);
    }

    [Fact]
    public void Equal_names_become_a_list_in_the_script_s_json()
    {
        var text = new StringWriter();
        MigrationStreams.WriteAnalyzeJson(Input(Stream([1, 0xff, 1], Json("d",
            """{"name":"a","array_len":2,"type":"int8","size":1},{"name":"b","type":"bool","size":1},{"name":"s","type":"struct","struct":{"vmsd_name":"x","version":1,"fields":[]},"size":0}"""))), text);
        var device = JsonDocument.Parse(text.ToString()).RootElement.GetProperty("d (3)");
        Assert.Equal(["0x01", "0xff (-1)"], device.GetProperty("a").EnumerateArray().Select(e => e.GetString()!));
        Assert.True(device.GetProperty("b").GetBoolean());
        Assert.Contains("\"s\": {}", text.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_long_array_is_shown_as_its_bytes_and_listed_in_the_script_s_json()
    {
        // As long as the packet buffers of a USB controller that QEMU describes as single bytes.
        byte[] body = new byte[1 << 20];
        new Random(1).NextBytes(body);
        string fields = $$"""{"name":"a","array_len":{{body.Length / 2}},"type":"int16","size":2}""";
        var field = Assert.Single(Decode(body, fields).Fields);
        Assert.Equal(("a", $"int16[{body.Length / 2}]", (long)body.Length), (field.Name, field.Type, field.Size));
        Assert.StartsWith(Convert.ToHexStringLower(body.AsSpan(0, 4096)) + "…", (string)field.Value!, StringComparison.Ordinal);
        var text = new StringWriter();
        MigrationStreams.WriteAnalyzeJson(Input(Stream(body, Json("d", fields))), text);
        var listed = JsonDocument.Parse(text.ToString()).RootElement.GetProperty("d (3)").GetProperty("a");
        Assert.Equal(body.Length / 2, listed.GetArrayLength());
        int i = 0;
        foreach (var element in listed.EnumerateArray())
        {
            Assert.StartsWith("0x" + Convert.ToHexStringLower(body.AsSpan(2 * i++, 2)), element.GetString(), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_long_array_that_the_section_has_no_room_for_is_named()
        => Assert.Contains("expected the array 'a' of 4,000 bytes, found 3,999 bytes", Assert.Throws<StreamException>(
            () => Decode(new byte[3999], """{"name":"a","array_len":2000,"type":"uint16","size":2}""")).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("""{"name":"f","array_len":10000,"type":"uint8","size":1}""")]
    [InlineData("""{"name":"f","type":"buffer","size":10000}""")]
    public void A_long_value_is_compared_to_its_end(string fields)
    {
        byte[] a = new byte[10_000], b = new byte[10_000];
        b[9_000] = 1;
        var difference = Assert.Single(MigrationStreams.Compare(Input(Stream(a, Json("d", fields))), Input(Stream(b, Json("d", fields))), values: true));
        Assert.Equal(("d", "f", "the value differs from its byte 9,000 on"), (difference.Device, difference.Field, difference.Detail));
    }

    [Fact]
    public void A_machine_without_memory_lists_no_block()
    {
        byte[] stream = new StreamBuilder().Section(1, 1, "ram", 4).U64(4).U64(0x10).Footer(1).Part(3, 1).U64(0x10).Footer(1).End(Json("d", "")).Bytes;
        using var scope = new TransferScope(TransferScope.DefaultTimeout);
        var info = MigrationStreams.GetInfo(Input(stream), scope);
        var failure = scope.Failure as StreamException;
        Assert.Null(failure);
        Assert.Empty(info.RamBlocks);
        Assert.True(MigrationStreams.Test(Input(stream)).Passed);
    }

    private static MigrationStreamDevice Decode(byte[] body, string fields, string more = "")
        => Assert.Single(MigrationStreams.GetDevices(Input(Stream(body, Json("d", fields, more))), "d"));

    internal static byte[] Stream(byte[] body, string json, string device = "d") => new StreamBuilder().Section(4, 3, device).Raw(body).Footer(3).End(json).Bytes;

    internal static MigrationStreamInput Input(byte[] stream) => new() { Path = "built", Forward = new ForwardOnly(stream) };
}
