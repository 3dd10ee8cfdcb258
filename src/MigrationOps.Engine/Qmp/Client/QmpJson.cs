using System.Text.Json;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// Reads members of what a QEMU sent, whatever its version: a member that is missing or of another kind is null, never an
/// exception.
/// </summary>
internal static class QmpJson
{
    internal static JsonElement? Member(this JsonElement value, string name)
        => value.ValueKind == JsonValueKind.Object && value.TryGetProperty(name, out var member) && member.ValueKind != JsonValueKind.Null
            ? member : null;

    internal static string? Text(this JsonElement value, string name)
        => value.Member(name) is { ValueKind: JsonValueKind.String } text ? text.GetString() : null;

    internal static bool? Flag(this JsonElement value, string name) => value.Member(name) switch
    {
        { ValueKind: JsonValueKind.True } => true,
        { ValueKind: JsonValueKind.False } => false,
        _ => null,
    };

    /// <summary>A whole number; one beyond the range of long is null.</summary>
    internal static long? Number(this JsonElement value, string name) => value.Member(name) is { ValueKind: JsonValueKind.Number } number
        ? number.TryGetInt64(out long whole) ? whole : number.TryGetDouble(out double real) && Math.Abs(real) < long.MaxValue ? (long)real : null
        : null;

    internal static double? Real(this JsonElement value, string name)
        => value.Member(name) is { ValueKind: JsonValueKind.Number } number && number.TryGetDouble(out double real) ? real : null;

    /// <summary>The elements of an array; none if it is missing.</summary>
    internal static IEnumerable<JsonElement> Items(this JsonElement value, string name)
        => value.Member(name) is { ValueKind: JsonValueKind.Array } array ? array.EnumerateArray() : [];

    /// <summary>The elements if it is an array; none otherwise.</summary>
    internal static IEnumerable<JsonElement> Items(this JsonElement value)
        => value.ValueKind == JsonValueKind.Array ? value.EnumerateArray() : [];

    /// <summary>The texts of an array.</summary>
    internal static string[] Texts(this JsonElement value, string name)
        => [.. value.Items(name).Where(item => item.ValueKind == JsonValueKind.String).Select(item => item.GetString()!)];
}
