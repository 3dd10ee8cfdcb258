using System.Globalization;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Capabilities of a pseries machine: a destination takes a level that is not above its own. One that is at the machine
/// type's default is not in the stream, and no stream tells that default.
/// </summary>
internal static class SpaprCapabilities
{
    internal const string Prefix = "spapr/cap/";

    // These have levels between off and on.
    private static readonly string[] WithLevels = ["cfpc", "sbbc", "ibs", "hpt_maxpagesize"];

    internal static bool Is(StateNode subsection) => subsection.Name.StartsWith(Prefix, StringComparison.Ordinal);

    internal static void Check(Findings findings, string device, string path, ulong mine, ulong theirs)
    {
        if (mine > theirs)
        {
            findings.Error(device, path, "the capability's level is higher than the destination's", Text(mine), Text(theirs));
        }
    }

    /// <summary>Only the stream has it: the destination is at its default, which the stream's level is not.</summary>
    internal static void CheckNew(Findings findings, string device, StateNode mine)
    {
        ulong level = Level(mine);
        if (level > 0 && !Array.Exists(WithLevels, mine.Name.EndsWith))
        {
            findings.Error(device, mine.Name, "the capability is off in the destination", Text(level));
        }
        else if (level > 0)
        {
            findings.Warning(device, mine.Name, "the capability's level must not be above the destination's, which is its machine type's default", Text(level));
        }
    }

    /// <summary>Only the destination would write it: the stream is at the default, which the destination's level is not.</summary>
    internal static void CheckAbsent(Findings findings, string device, StateNode theirs)
    {
        if (!Is(theirs))
        {
            return;
        }

        if (Level(theirs) == 0)
        {
            findings.Error(device, theirs.Name, "the capability is off in the destination, and on by default in the stream", "", "0");
        }
        else if (Array.Exists(WithLevels, theirs.Name.EndsWith))
        {
            findings.Warning(device, theirs.Name, "the stream has the machine type's default, which must not be above the destination's level", "", Text(Level(theirs)));
        }
    }

    private static ulong Level(StateNode subsection) => subsection.Children is [var only, ..] ? only.Number : 0;

    private static string Text(ulong level) => level.ToString(CultureInfo.InvariantCulture);
}
