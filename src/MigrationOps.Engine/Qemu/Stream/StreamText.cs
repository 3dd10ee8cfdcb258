using System.Text;
using System.Text.Unicode;

namespace MigrationOps.Engine.Qemu;

/// <summary>The names in a stream: an idstr, a machine type, a RAM block. QEMU writes ASCII; any UTF-8 without control characters is read.</summary>
internal static class StreamText
{
    /// <summary>The most bytes of a name whose length stands in one byte.</summary>
    internal const int MaxName = byte.MaxValue;

    /// <summary>Whether the bytes can be a name.</summary>
    internal static bool IsName(ReadOnlySpan<byte> name)
        => !name.IsEmpty && (!name.ContainsAnyExceptInRange((byte)0x20, (byte)0x7e) || (Utf8.IsValid(name) && !Encoding.UTF8.GetString(name).Any(char.IsControl)));

    /// <summary>Reads a name.</summary>
    /// <param name="name">Its bytes.</param>
    /// <param name="offset">Where to look, for the error.</param>
    /// <param name="what">What it names, for the error.</param>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidName"/>.</exception>
    internal static string Read(ReadOnlySpan<byte> name, long offset, string what)
        => IsName(name) ? Encoding.UTF8.GetString(name)
            : throw WalkContext.Failure(StreamError.InvalidName, null, offset, $"{what} is {(name.IsEmpty ? "empty" : "not readable")}");
}
