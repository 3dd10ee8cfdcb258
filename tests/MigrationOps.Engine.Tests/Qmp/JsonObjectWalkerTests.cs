using System.Text;
using System.Text.Json;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Qmp;

/// <summary>A monitor's bytes become the same messages however they are split, and what is not QMP is named with its place.</summary>
public class JsonObjectWalkerTests
{
    private const string Conversation = """
        {"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "Debian 1:10.0.2"}, "capabilities": ["oob"]}}
        {"return": {}, "id": 1}
        {"timestamp": {"seconds": 1764269000, "microseconds": 5}, "event": "STOP"}
        {"return": {"text": "a \"quoted\" brace } and \\ and ü \u00e9 \ud83d\ude00"}, "id": 2}
        {"error": {"class": "GenericError", "desc": "no { such ] thing"}, "id": 3}
        {
            "return": [ {"pretty": [1, 2, {"x": null}]} ],
            "id": 4
        }
        {"timestamp": {"seconds": -1, "microseconds": -1}, "event": "MIGRATION", "data": {"status": "active"}}
        {"error": {"class": "GenericError", "desc": "JSON parse error"}}
        {"something": "new"}

        """;

    [Fact]
    public void Any_split_of_the_bytes_gives_the_same_messages()
    {
        byte[] bytes = Encoding.UTF8.GetBytes(Conversation.ReplaceLineEndings("\r\n"));
        string[] whole = Messages([bytes]);
        Assert.Equal(9, whole.Length);
        for (int cut = 1; cut < bytes.Length; cut++)
        {
            Assert.Equal(whole, Messages([bytes.AsMemory(0, cut), bytes.AsMemory(cut)]));
        }

        Property.Holds(Property.Splits(40), sizes => Assert.Equal(whole, Messages(Property.Cut(bytes, sizes))));
    }

    [Fact]
    public void A_message_that_is_cut_by_the_end_is_named_with_its_place()
    {
        byte[] bytes = Encoding.UTF8.GetBytes("{\"return\": {}}\r\n");
        for (int length = 0; length <= bytes.Length; length++)
        {
            var found = new List<JsonElement>();
            var failure = Record.Exception(() => new JsonObjectWalker(found.Add).Feed(bytes.AsSpan(0, length), last: true)) as QmpException;
            bool isInside = length is > 0 and < 14;
            Assert.Equal(isInside ? QmpError.ConnectionLost : null, failure?.Reason);
            Assert.Equal(isInside ? length : null, failure?.ByteOffset);
            Assert.Equal(length < 14 ? 0 : 1, found.Count);
        }
    }

    [Fact]
    public void Each_kind_of_message_is_read_with_its_members()
    {
        var messages = Parse(Encoding.UTF8.GetBytes(Conversation));
        var greeting = Assert.IsType<QmpMessage.Greeting>(messages[0]);
        Assert.Equal("10.0.2 (Debian 1:10.0.2)", greeting.Version.ToString());
        Assert.Equal(["oob"], greeting.Capabilities);
        Assert.Equal(1, Assert.IsType<QmpMessage.Return>(messages[1]).Id);
        var stop = Assert.IsType<QmpMessage.Event>(messages[2]);
        Assert.Equal(("STOP", DateTimeOffset.FromUnixTimeSeconds(1764269000).AddMicroseconds(5)), (stop.Name, stop.Time));
        Assert.Equal("a \"quoted\" brace } and \\ and ü é 😀", Assert.IsType<QmpMessage.Return>(messages[3]).Value.Text("text"));
        Assert.Equal(new QmpMessage.Error(3, "GenericError", "no { such ] thing"), messages[4]);
        Assert.Equal(4, Assert.IsType<QmpMessage.Return>(messages[5]).Id);
        var migration = Assert.IsType<QmpMessage.Event>(messages[6]);
        Assert.Equal(("active", null), (migration.Data.Text("status"), migration.Time));
        Assert.Equal(new QmpMessage.Error(null, "GenericError", "JSON parse error"), messages[7]);
        Assert.Equal("new", Assert.IsType<QmpMessage.Unknown>(messages[8]).Body.Text("something"));
    }

    [Theory]
    [InlineData("""{"return": {"t": "\ud800"}}""", "\ufffd")]
    [InlineData("""{"return": {"t": "\udc00\ud800x"}}""", "\ufffd\ufffdx")]
    [InlineData("""{"return": {"t": "\\ud800"}}""", "\\ud800")]
    [InlineData("""{"return": {"t": "\uD83D\uDE00 \uD83D"}}""", "😀 \ufffd")]
    public void Half_a_surrogate_pair_is_replaced_and_does_not_throw_later(string text, string expected)
        => Assert.Equal(expected, Assert.IsType<QmpMessage.Return>(Assert.Single(Parse(Encoding.ASCII.GetBytes(text)))).Value.Text("t"));

    [Theory]
    [InlineData("QEMU 10.0.2 monitor", 0)]
    [InlineData("  [1]", 2)]
    [InlineData("{\"return\": 1]", 12)]
    [InlineData("{\"return\": tru}", 14)]
    [InlineData("{\"a\": 1}\r\n}", 10)]
    public void What_is_not_a_message_is_named_with_its_place(string text, int offset)
    {
        var failure = Assert.Throws<QmpException>(() => Parse(Encoding.UTF8.GetBytes(text)));
        Assert.Equal((QmpError.InvalidMessage, (long?)offset), (failure.Reason, failure.ByteOffset));
    }

    [Fact]
    public void Bytes_that_are_not_utf8_are_refused()
        => Assert.Equal(QmpError.InvalidMessage, Assert.Throws<QmpException>(() => Parse([.. "{\"return\": \""u8, 0xff, .. "\"}"u8])).Reason);

    [Fact]
    public void Nesting_has_a_limit()
    {
        byte[] deep = Encoding.ASCII.GetBytes("{\"a\":" + new string('[', 1100));
        Assert.Equal(QmpError.InvalidMessage, Assert.Throws<QmpException>(() => Parse(deep)).Reason);
    }

    [Fact]
    public void A_message_of_64_mebibytes_is_read_and_one_byte_more_is_refused()
    {
        Assert.Equal(JsonObjectWalker.LongestMessage - LongMessage(0).Length, Read(LongMessage(JsonObjectWalker.LongestMessage - LongMessage(0).Length)));
        var failure = Assert.Throws<QmpException>(() => Read(LongMessage(JsonObjectWalker.LongestMessage - LongMessage(0).Length + 1)));
        Assert.Equal(QmpError.MessageTooLarge, failure.Reason);

        static byte[] LongMessage(int fill)
        {
            byte[] message = new byte[fill + 13];
            "{\"return\":\""u8.CopyTo(message);
            message.AsSpan(11, fill).Fill((byte)'x');
            "\"}"u8.CopyTo(message.AsSpan(11 + fill));
            return message;
        }

        static int Read(byte[] message)
        {
            QmpMessage? found = null;
            var walker = new JsonObjectWalker(value => found = QmpMessage.Read(value));
            for (int at = 0; at < message.Length;)
            {
                at += walker.Feed(message.AsSpan(at, Math.Min(100_000, message.Length - at)), last: false);
            }

            return Assert.IsType<QmpMessage.Return>(found).Value.GetString()!.Length;
        }
    }

    private static string[] Messages(IEnumerable<ReadOnlyMemory<byte>> pieces)
    {
        var found = new List<string>();
        var walker = new JsonObjectWalker(value => found.Add(Describe(QmpMessage.Read(value))));
        foreach (var piece in pieces)
        {
            Assert.Equal(piece.Length, walker.Feed(piece.Span, last: false));
        }

        walker.Feed([], last: true);
        return [.. found];
    }

    private static List<QmpMessage> Parse(byte[] bytes)
    {
        var found = new List<QmpMessage>();
        new JsonObjectWalker(value => found.Add(QmpMessage.Read(value))).Feed(bytes, last: false);
        return found;
    }

    private static string Describe(QmpMessage message) => message switch
    {
        QmpMessage.Greeting greeting => $"{greeting.Version} {string.Join(' ', greeting.Capabilities)}",
        QmpMessage.Return answer => $"{answer.Id} {JsonSerializer.Serialize(answer.Value)}",
        QmpMessage.Event happened => $"{happened.Name} {happened.Time} {(happened.Data.ValueKind == JsonValueKind.Undefined ? "" : happened.Data.GetRawText())}",
        QmpMessage.Unknown unknown => unknown.Body.GetRawText(),
        _ => message.ToString(),
    };
}
