using System.Globalization;
using System.Text.RegularExpressions;

namespace MigrationOps.Engine.Qemu;

/// <summary>The version in the name of a machine type, on which QEMU's behaviour in a migration depends.</summary>
internal static partial class MachineVersion
{
    private static readonly Version s_acksPerDevice = new(11, 1);

    private static readonly Version s_saysWhereItSyncs = new(8, 1);

    /// <summary>The version, such as 11.1 of pc-q35-11.1; null if the name has none of QEMU's own.</summary>
    internal static Version? Of(string? machineType)
        => machineType is not null && Suffix().Match(machineType) is { Success: true } match
            ? new Version(int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture), int.Parse(match.Groups[2].ValueSpan, CultureInfo.InvariantCulture))
            : null;

    /// <summary>True if a source with multifd syncs its channels at the end of each RAM section, and does not say so by a word.</summary>
    internal static bool SyncsAtSectionEnd(string? machineType) => Of(machineType) < s_saysWhereItSyncs;

    /// <summary>True if each device that asks for it gets an acknowledgement of its own.</summary>
    internal static bool AcksPerDevice(SwitchoverAckCount count, string? machineType) => count switch
    {
        SwitchoverAckCount.Once => false,
        SwitchoverAckCount.PerDevice => true,
        _ => Of(machineType) >= s_acksPerDevice,
    };

    [GeneratedRegex("^[a-z][a-z0-9-]*-([0-9]{1,3})[.]([0-9]{1,3})$", RegexOptions.CultureInvariant, matchTimeoutMilliseconds: 1000)]
    private static partial Regex Suffix();
}
