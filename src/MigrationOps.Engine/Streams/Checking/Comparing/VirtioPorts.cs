using System.Globalization;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// The ports of a virtio console: which numbers are taken must be the same, and a port that the stream describes must be
/// there.
/// </summary>
internal static class VirtioPorts
{
    internal static bool IsFor(string device) => device.Contains("virtio-console", StringComparison.Ordinal) || device.Contains("virtio-serial", StringComparison.Ordinal);

    internal static void Check(Findings findings, string device, string path, byte[] mine, byte[] theirs)
    {
        if (ConsolePorts.Parse(mine) is not { } ports || ConsolePorts.Parse(theirs) is not { } portsThere)
        {
            findings.Warning(device, path, "the ports cannot be read out of the device's own part");
            return;
        }

        if (ports.Words != portsThere.Words)
        {
            findings.Error(device, path, "the list of the ports' numbers has another length: other max_ports", Text(ports.Most), Text(portsThere.Most));
        }
        else if (!ports.Numbers.SequenceEqual(portsThere.Numbers))
        {
            findings.Error(device, path, "the ports have other numbers", string.Join(", ", ports.Numbers), string.Join(", ", portsThere.Numbers));
        }
        else if (ports.Most > portsThere.Most)
        {
            findings.Warning(device, path, "the destination has room for fewer ports", Text(ports.Most), Text(portsThere.Most));
        }

        if (ports.First is { } first && first != portsThere.First)
        {
            findings.Error(device, path, "the destination has no such port", $"port {first}", portsThere.First is { } other ? $"port {other}" : "");
        }
    }

    private static string Text(uint number) => number.ToString(CultureInfo.InvariantCulture);
}
