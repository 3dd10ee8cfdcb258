using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>A block of guest memory as x-query-ramblock prints it. Lengths in bytes.</summary>
/// <param name="Name">Its name in the stream.</param>
/// <param name="PageBytes">The size of its pages in this QEMU.</param>
/// <param name="Used">What the stream carries of it.</param>
/// <param name="Maximum">What it can grow to.</param>
internal sealed partial record RamBlockFacts(string Name, long PageBytes, long Used, long Maximum)
{
    /// <summary>The blocks; null if this QEMU does not tell them, or in a form that is not known.</summary>
    internal static IReadOnlyList<RamBlockFacts>? Of(QemuFacts qemu)
    {
        if (qemu["x-query-ramblock"]?.Text("human-readable-text") is not { } text)
        {
            return null;
        }

        string[] lines = [.. text.Split('\n').Skip(1).Where(line => line.Trim().Length > 0)];
        var blocks = lines.Select(line => Line().Match(line)).Where(match => match.Success).Select(match => new RamBlockFacts(
            match.Groups["name"].Value,
            long.Parse(match.Groups["page"].Value, CultureInfo.InvariantCulture) << Shift(match.Groups["unit"].Value),
            Number(match.Groups["used"].Value),
            Number(match.Groups["total"].Value))).ToArray();
        return blocks.Length == lines.Length && blocks.Length > 0 ? blocks : null;
    }

    private static long Number(string hex) => long.Parse(hex.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private static int Shift(string unit) => unit switch { "KiB" => 10, "MiB" => 20, "GiB" => 30, _ => 0 };

    // A name may have blanks; behind it stand the size of a page, offset, used and total length, and more in later versions.
    [GeneratedRegex(@"^\s*(?<name>\S.*?)\s+(?<page>\d+) (?<unit>[KMG]?i?B)\s+0x[0-9a-f]+\s+(?<used>0x[0-9a-f]+)\s+(?<total>0x[0-9a-f]+)(\s|$)", RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 1000)]
    private static partial Regex Line();
}
