using MigrationOps.Engine.Qemu;
namespace MigrationOps.Engine.Streams;

/// <summary>A decoded value of a device's state, or a structure of them.</summary>
internal sealed class StateNode
{
    internal required string Name { get; init; }

    internal required string Type { get; init; }

    /// <summary>Where it lies in the stream.</summary>
    internal required long Offset { get; init; }

    /// <summary>In bytes; of one element, if there are several.</summary>
    internal long Size { get; set; }

    /// <summary>More than one for a long array of integers: it is one node, and its elements are read when they are asked for.</summary>
    internal long Count { get; init; } = 1;

    /// <summary>In bytes, with all elements.</summary>
    internal long Length => Size * Count;

    /// <summary>True if the description lists it as an element of an array.</summary>
    internal bool IsElement { get; init; }

    internal bool IsSubsection { get; init; }

    /// <summary>True for bytes that are a text, up to the first NUL.</summary>
    internal bool IsText { get; set; }

    /// <summary>A subsection's version, which is in the stream.</summary>
    internal uint Version { get; init; }

    internal StateNode[]? Children { get; set; }

    /// <summary>An integer's or bool's value.</summary>
    internal ulong Number { get; init; }

    /// <summary>The meaning of the value, where it is known.</summary>
    internal string? Text { get; init; }

    internal StateNode? Child(string name) => Children is null ? null : Array.Find(Children, c => c.Name == name);

    /// <summary>The elements of an array, one after another; anything else is its own only element.</summary>
    internal IEnumerable<StateNode> Elements(StreamBytes bytes)
    {
        if (Count == 1)
        {
            yield return this;
            yield break;
        }

        var window = new byte[Math.Min(Count, 1024) * Size];
        for (long i = 0; i < Count; i++)
        {
            int at = (int)(i * Size % window.Length);
            if (at == 0)
            {
                bytes.Read(Offset + (i * Size), window.AsSpan(0, (int)Math.Min(window.Length, (Count - i) * Size)));
            }

            ulong number = 0;
            for (int b = 0; b < Size; b++)
            {
                number = (number << 8) | window[at + b];
            }

            yield return new StateNode { Name = Name, Type = Type, Offset = Offset + (i * Size), Size = Size, IsElement = true, Number = number };
        }
    }

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

    internal static bool IsList(string type) => type is "QTAILQ" or "qtailq" or "QLIST" or "qlist";

    internal static bool IsInteger(string type) => Integers.ContainsKey(type);

    internal static bool IsSigned(string type) => Integers[type];

    /// <summary>The value with the sign that its type and size give.</summary>
    internal static long Signed(ulong value, long size) => unchecked((long)(value << (int)(64 - (8 * size))) >> (int)(64 - (8 * size)));
}
