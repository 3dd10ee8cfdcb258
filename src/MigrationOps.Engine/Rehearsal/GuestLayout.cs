using System.Globalization;
using System.Text.RegularExpressions;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>Where guest-physical addresses lie in RAM blocks, as a QEMU tells it (<c>info mtree -f</c>).</summary>
internal sealed partial class GuestLayout
{
    private readonly List<(ulong First, ulong Last, string Region, ulong Offset)> _ranges = [];

    /// <summary>Reads what the human monitor prints: the flat view of the address space "memory".</summary>
    internal static GuestLayout Parse(string text)
    {
        var layout = new GuestLayout();
        bool isMemory = false;
        foreach (string line in text.Split('\n', StringSplitOptions.TrimEntries))
        {
            if (line.StartsWith("FlatView", StringComparison.Ordinal))
            {
                isMemory = false;
            }
            else if (line.StartsWith("AS \"", StringComparison.Ordinal))
            {
                // A view has the names of all address spaces that share it.
                isMemory |= line.StartsWith("AS \"memory\"", StringComparison.Ordinal);
            }
            else if (isMemory && Range().Match(line) is { Success: true } range)
            {
                layout._ranges.Add((Hex(range.Groups[1].Value), Hex(range.Groups[2].Value), range.Groups[3].Value,
                    range.Groups[4].Success ? Hex(range.Groups[4].Value) : 0));
            }
        }

        return layout;

        static ulong Hex(string digits) => ulong.Parse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
    }

    /// <summary>The memory region and the offset in it at a guest address; null if no RAM lies there.</summary>
    internal (string Region, long Offset)? Find(ulong address)
    {
        foreach (var (first, last, region, offset) in _ranges)
        {
            if (address >= first && address <= last)
            {
                return (region, (long)(offset + address - first));
            }
        }

        return null;
    }

    [GeneratedRegex(@"^([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (?:nv-)?(?:ram|rom|ramd|romd)\): (\S+)(?: @([0-9a-f]{16}))?", RegexOptions.None, 1000)]
    private static partial Regex Range();
}
