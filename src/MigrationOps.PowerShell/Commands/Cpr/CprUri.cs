using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Wire;

namespace MigrationOps.PowerShell.Commands;

/// <summary>The endpoints over which descriptors can travel.</summary>
internal static class CprUri
{
    /// <summary>The socket's path.</summary>
    /// <exception cref="CprException"><see cref="CprError.UnsupportedMode"/> for anything but a UNIX socket.</exception>
    internal static string Resolve(Endpoint endpoint) => endpoint is Endpoint.Unix unix
        ? unix.Path
        : throw new CprException(CprError.UnsupportedMode,
            $"Descriptors cannot travel over {endpoint}; QEMU's mode cpr-transfer uses a UNIX socket.",
            action: "Give the endpoint as unix:PATH.")
        { Target = endpoint.ToString() };
}
