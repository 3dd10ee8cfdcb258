using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>Names what a connection does to a migration.</summary>
internal static class StreamFailure
{
    /// <summary>The failure of a read or write, with section and byte; what is not the connection's doing stays as it is.</summary>
    internal static Exception Of(Exception failure, long offset, string? section)
    {
        string where = section is null ? "" : $", in {section}";
        return failure switch
        {
            WireException { Reason: WireError.Timeout } => new SaveVmException(SaveVmError.PeerSilent,
                $"{failure.Message.TrimEnd('.')}, at byte {offset:N0} of the stream{where}.", failure)
            { ByteOffset = offset, Section = section },
            WireException { Reason: WireError.NoSpace or WireError.AccessDenied } => failure,
            WireException or IOException or ObjectDisposedException => new SaveVmException(SaveVmError.ConnectionLost,
                $"The connection broke at byte {offset:N0} of the stream{where}: {failure.Message.TrimEnd('.')}.", failure)
            { ByteOffset = offset, Section = section },
            _ => failure,
        };
    }

    /// <summary>The failure of a multifd channel, whatever the system calls it.</summary>
    internal static Exception OfChannel(Exception failure, string channel)
    {
        var reason = failure is WireException { Reason: WireError.Timeout } ? SaveVmError.PeerSilent : SaveVmError.ConnectionLost;
        string what = reason == SaveVmError.PeerSilent ? "stands still" : "broke";
        return new SaveVmException(reason, $"Multifd {channel} {what}: {failure.Message.TrimEnd('.')}.", failure) { Section = channel };
    }
}
