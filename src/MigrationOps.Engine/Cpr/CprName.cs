using System.Buffers;
using System.Globalization;
using System.Text;

namespace MigrationOps.Engine.Cpr;

/// <summary>
/// The name of an entry: bytes, because QEMU's names are C strings of no particular encoding. Shown as text, with
/// <c>\xNN</c> for what is not printable UTF-8 and <c>\\</c> for a backslash.
/// </summary>
internal readonly struct CprName : IEquatable<CprName>
{
    /// <summary>The longest name in bytes, without its NUL.</summary>
    public const int MaxLength = 4096;

    private readonly byte[]? _bytes;

    /// <summary>Copies the bytes of a name.</summary>
    /// <param name="bytes">1 to 4,096 bytes without a NUL.</param>
    /// <exception cref="CprException"><see cref="CprError.InvalidName"/> or <see cref="CprError.NameTooLong"/>.</exception>
    public CprName(ReadOnlySpan<byte> bytes)
    {
        _bytes = bytes.Length > MaxLength
            ? throw new CprException(CprError.NameTooLong,
                $"A name of {bytes.Length:N0} bytes is longer than the {MaxLength:N0} that are allowed.")
            : bytes.IsEmpty ? throw new CprException(CprError.InvalidName, "A name is empty.")
            : bytes.Contains((byte)0) ? throw new CprException(CprError.InvalidName,
                $"The name '{Escape(bytes)}' has a NUL inside, which ends a C string.")
            : bytes.ToArray();
    }

    /// <summary>The bytes, without a NUL.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes;

    /// <summary>Reads the text form, with its escapes.</summary>
    public static CprName Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        if (!text.Contains('\\', StringComparison.Ordinal))
        {
            return new CprName(bytes);
        }

        int length = 0;
        for (int i = 0; i < bytes.Length; i++)
        {
            byte value = bytes[i];
            if (value == '\\')
            {
                value = Unescape(bytes.AsSpan(i), text, out int used);
                i += used - 1;
            }

            bytes[length++] = value;
        }

        return new CprName(bytes.AsSpan(0, length));
    }

    /// <inheritdoc/>
    public override string ToString() => Escape(Bytes);

    /// <inheritdoc/>
    public bool Equals(CprName other) => Bytes.SequenceEqual(other.Bytes);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is CprName other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        var hash = new HashCode();
        hash.AddBytes(Bytes);
        return hash.ToHashCode();
    }

    /// <summary>Compares bytes.</summary>
    public static bool operator ==(CprName left, CprName right) => left.Equals(right);

    /// <summary>Compares bytes.</summary>
    public static bool operator !=(CprName left, CprName right) => !left.Equals(right);

    private static byte Unescape(ReadOnlySpan<byte> escape, string text, out int used)
    {
        if (escape.Length > 1 && escape[1] == '\\')
        {
            used = 2;
            return (byte)'\\';
        }

        used = 4;
        return escape.Length >= 4 && escape[1] == 'x'
            && byte.TryParse(escape.Slice(2, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out byte value)
            ? value
            : throw new CprException(CprError.InvalidName,
                $"The name '{text}' has a backslash that starts neither '\\\\' nor '\\xNN'.",
                action: @"Write a backslash as \\ and a byte that is not text as \x and two hexadecimal digits.");
    }

    private static string Escape(ReadOnlySpan<byte> bytes)
    {
        var text = new StringBuilder(bytes.Length);
        while (!bytes.IsEmpty)
        {
            bool ok = Rune.DecodeFromUtf8(bytes, out var rune, out int used) == OperationStatus.Done;
            if (ok && rune.Value == '\\')
            {
                text.Append(@"\\");
            }
            else if (ok && !Rune.IsControl(rune) && Rune.GetUnicodeCategory(rune) != UnicodeCategory.Format)
            {
                text.Append(rune.ToString());
            }
            else
            {
                foreach (byte value in bytes[..used])
                {
                    text.Append(CultureInfo.InvariantCulture, $@"\x{value:x2}");
                }
            }

            bytes = bytes[used..];
        }

        return text.ToString();
    }
}
