namespace MigrationOps.Engine.Streams;

/// <summary>A decoded value of a device's state, or a structure of them.</summary>
internal sealed class StateNode
{
    internal required string Name { get; init; }

    internal required string Type { get; init; }

    /// <summary>Where it lies in the stream.</summary>
    internal required long Offset { get; init; }

    internal long Size { get; set; }

    /// <summary>True if the description lists it as an element of an array.</summary>
    internal bool IsElement { get; init; }

    internal bool IsSubsection { get; init; }

    internal StateNode[]? Children { get; set; }

    /// <summary>An integer's or bool's value.</summary>
    internal ulong Number { get; init; }

    /// <summary>The meaning of the value, where it is known.</summary>
    internal string? Text { get; init; }

    internal StateNode? Child(string name) => Children is null ? null : Array.Find(Children, c => c.Name == name);

    /// <summary>This node and everything below it.</summary>
    internal IEnumerable<StateNode> All() => (Children ?? []).SelectMany(c => c.All()).Prepend(this);
}

/// <summary>What is known of the types of fields that descriptions name.</summary>
internal static class FieldTypes
{
    /// <summary>Signed and unsigned integers; true for signed. The "equal" kinds are checked by the loader, not stored otherwise.</summary>
    private static readonly Dictionary<string, bool> Integers = new()
    {
        ["int8"] = true,
        ["int16"] = true,
        ["int32"] = true,
        ["int32 equal"] = true,
        ["int32 le"] = true,
        ["int64"] = true,
        ["int64 equal"] = true,
        ["uint8"] = false,
        ["uint16"] = false,
        ["uint32"] = false,
        ["uint32 equal"] = false,
        ["uint64"] = false,
        ["uint8 equal"] = true,
        ["uint16 equal"] = true,
    };

    internal static bool IsInteger(string type) => Integers.ContainsKey(type);

    internal static bool IsSigned(string type) => Integers[type];

    /// <summary>The value with the sign that its type and size give.</summary>
    internal static long Signed(ulong value, long size) => unchecked((long)(value << (int)(64 - (8 * size))) >> (int)(64 - (8 * size)));
}
