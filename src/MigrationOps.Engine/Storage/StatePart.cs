using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Storage;

/// <summary>The head of a part behind a state's data: u8 length of its name and the name, in UTF-8; length zero ends the state.</summary>
/// <param name="Name">The name; empty for the end mark.</param>
internal readonly record struct StatePart(string Name)
{
    /// <summary>The part that holds the SHA-256 of the data.</summary>
    public const string Digest = "sha256";

    /// <summary>The part that holds the SHA-256 of the other parts, names included; there if there are others.</summary>
    public const string PartsDigest = "sha256-parts";

    /// <summary>True for the mark behind the last part.</summary>
    public bool IsEnd => Name.Length == 0;

    /// <summary>How many bytes a head has that begins with these, as far as they tell.</summary>
    public static int CountBytes(ReadOnlySpan<byte> begun) => begun.IsEmpty ? 1 : 1 + begun[0];

    /// <summary>Reads a head.</summary>
    public static bool TryRead(ref WireReader reader, out StatePart part)
    {
        var r = reader;
        part = default;
        if (!r.TryReadByte(out byte length) || !r.TryReadBytes(length, out var name))
        {
            return false;
        }

        part = new StatePart(Encoding.UTF8.GetString(name));
        reader = r;
        return true;
    }
}
