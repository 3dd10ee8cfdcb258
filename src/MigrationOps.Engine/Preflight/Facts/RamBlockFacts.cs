using System.Globalization;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>A block of guest memory as x-query-ramblock prints it. Lengths in bytes.</summary>
/// <param name="Name">Its name in the stream.</param>
/// <param name="PageBytes">The size of its pages in this QEMU.</param>
/// <param name="Used">What the stream carries of it.</param>
/// <param name="Maximum">What it can grow to.</param>
internal sealed record RamBlockFacts(string Name, long PageBytes, long Used, long Maximum)
{
    private const string Hex = "0x";

    private static readonly string[] Units = ["B", "KiB", "MiB", "GiB"];

    /// <summary>The blocks; null if this QEMU does not tell them, or in a form that is not known.</summary>
    internal static IReadOnlyList<RamBlockFacts>? Of(QemuFacts qemu)
    {
        if (qemu["x-query-ramblock"]?.Text("human-readable-text") is not { } text)
        {
            return null;
        }

        var blocks = text.Split('\n').Skip(1).Where(line => line.Trim().Length > 0).Select(Parse).ToArray();
        return blocks.Length > 0 && Array.TrueForAll(blocks, block => block is not null) ? [.. blocks.Select(block => block!).Where(block => block.Name.Length > 0)] : null;
    }

    // A block without a name, as that of a memory backend that nothing uses, is in no stream.
    // Name, size of a page with its unit, offset, used and total length; in later versions more. A name may have blanks.
    private static RamBlockFacts? Parse(string line)
    {
        string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        for (int i = 0; i + 4 < words.Length; i++)
        {
            if (Array.IndexOf(Units, words[i + 1]) is >= 0 and var unit && long.TryParse(words[i], NumberStyles.None, CultureInfo.InvariantCulture, out long page)
                && Number(words[i + 2]) is not null && Number(words[i + 3]) is { } used && Number(words[i + 4]) is { } total)
            {
                return new RamBlockFacts(string.Join(' ', words[..i]), page << (10 * unit), used, total);
            }
        }

        return null;
    }

    private static long? Number(string word)
        => word.StartsWith(Hex, StringComparison.Ordinal) && long.TryParse(word.AsSpan(Hex.Length), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out long value) ? value : null;
}
