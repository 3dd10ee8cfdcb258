using System.Buffers;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace MigrationOps.Engine.Qmp;

/// <summary>A command as it goes over the wire. Its arguments may hold secrets, so nothing of them is ever logged or put in an error.</summary>
/// <param name="Name">The command.</param>
/// <param name="Arguments">Its arguments; null for none.</param>
/// <param name="OutOfBand">True to have it carried out at once, beside the queue; few commands allow it.</param>
internal sealed record QmpCommand(string Name, JsonObject? Arguments = null, bool OutOfBand = false)
{
    /// <summary>True if it only asks: it may be sent again when its answer was lost, and with -ReadOnly.</summary>
    internal bool IsQuery => IsQueryName(Name) || (Name == "human-monitor-command" && AsksHumanMonitor());

    internal static bool IsQueryName(string name)
        => name.StartsWith("query-", StringComparison.Ordinal) || name.StartsWith("x-query-", StringComparison.Ordinal)
            || name is "qom-get" or "qom-list" or "qom-list-get" or "qom-list-types" or "qom-list-properties" or "device-list-properties";

    /// <summary>The bytes of the message.</summary>
    internal ReadOnlyMemory<byte> Encode(long id)
    {
        var buffer = new ArrayBufferWriter<byte>(128);
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            writer.WriteString(OutOfBand ? "exec-oob"u8 : "execute"u8, Name);
            if (Arguments is not null)
            {
                writer.WritePropertyName("arguments"u8);
                Arguments.WriteTo(writer);
            }

            writer.WriteNumber("id"u8, id);
            writer.WriteEndObject();
        }

        buffer.Write("\n"u8);
        return buffer.WrittenMemory;
    }

    /// <summary>The command's name alone.</summary>
    public override string ToString() => Name;

    private bool AsksHumanMonitor()
        => Arguments?["command-line"] is JsonValue value && value.TryGetValue(out string? line)
            && line.AsSpan().TrimStart().StartsWith("info ", StringComparison.Ordinal);
}
