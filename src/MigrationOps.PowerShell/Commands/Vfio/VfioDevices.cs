using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Vfio;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

/// <summary>How cmdlets come to a VFIO device of this host.</summary>
internal static partial class VfioDevices
{
    /// <summary>A device as the user names it: a node or folder of sysfs as a path, else a PCI address or UUID.</summary>
    internal static string Resolve(string device, Func<string, string> resolvePath)
        => device.Contains('/', StringComparison.Ordinal) ? resolvePath(device) : device;

    /// <summary>Opens a device. What is done to it after a failure becomes a warning.</summary>
    /// <param name="device">What <see cref="Resolve"/> gave.</param>
    /// <param name="host">Where the warnings go.</param>
    internal static VfioDevice Open(string device, IOperationHost host)
    {
        var target = VfioHost.ThisMachine.Find(device);
        var opened = new VfioDevice(VfioHost.ThisMachine.Open(target)) { Notice = text => LogNotice(host.Logger, CmdletWords.Of(text)) };
        if (target.Interface == VfioInterface.NoIommuGroup)
        {
            LogNotice(host.Logger, $"'{device}' has no IOMMU: it reaches all memory of this host, and the kernel is tainted from now on.");
        }

        return opened;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Text}")]
    private static partial void LogNotice(ILogger logger, string text);
}
