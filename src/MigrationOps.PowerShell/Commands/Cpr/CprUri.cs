using Microsoft.Extensions.Logging;
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

/// <summary>What -Verbose tells of a hand-over.</summary>
internal static partial class CprLog
{
    [LoggerMessage(1, LogLevel.Information, "{Peer} handed {Count} descriptors over in a state of {Bytes} bytes")]
    internal static partial void Received(ILogger logger, string peer, long bytes, int count);

    [LoggerMessage(2, LogLevel.Information, "{Count} descriptors went to {Peer} in a state of {Bytes} bytes")]
    internal static partial void Sent(ILogger logger, string peer, long bytes, int count);
}
