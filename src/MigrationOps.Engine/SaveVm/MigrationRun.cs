using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// One run of a driver over one connection: its bounds, the watch over its handlers, how they are called, and the log. It never
/// changes, so that whoever has it may use all of it at any time. What outlives a connection is the session's.
/// </summary>
internal sealed class MigrationRun
{
    private MigrationRun(TransferScope scope, HandlerWatch watch, ILogger log, Func<long> position, Func<Exception?> streamFailure)
    {
        (Scope, Watch, Log) = (scope, watch, log);
        Caller = new HandlerCaller(watch, position, streamFailure, scope);
    }

    /// <summary>Ends every wait of the run.</summary>
    internal TransferScope Scope { get; }

    /// <summary>Knows when the driver waits, and ends it when a handler hangs.</summary>
    internal HandlerWatch Watch { get; }

    /// <summary>Calls handlers; their failures name a byte of the stream.</summary>
    internal HandlerCaller Caller { get; }

    internal ILogger Log { get; }

    /// <summary>A run that has no stream yet.</summary>
    internal static MigrationRun Begin(TransferScope scope, HandlerWatch watch, ILogger log) => new(scope, watch, log, () => 0, () => null);

    /// <summary>The same run, whose handlers write a stream.</summary>
    internal MigrationRun Over(OutgoingStream output) => new(Scope, Watch, Log, () => output.Position, () => output.Failure);

    /// <summary>The same run, whose handlers read a stream.</summary>
    internal MigrationRun Over(IncomingStream input) => new(Scope, Watch, Log, () => input.Offset, () => input.Failure);

    /// <summary>Tells the log which phase begins.</summary>
    internal void LogPhase(string phase) => SaveVmLog.Phase(Log, phase);
}
