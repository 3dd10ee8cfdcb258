using System.Diagnostics;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Cpr;

/// <summary>How a set of descriptors is handed over.</summary>
internal sealed record CprSendOptions
{
    /// <summary>The receiver's version.</summary>
    public CprStateLayout Layout { get; init; }

    /// <summary>True to send a set that lacks received entries or devices.</summary>
    public bool AllowLoss { get; init; }

    /// <summary>True to wait until the new process has taken everything over; the channel to it is closed then.</summary>
    public bool WaitForTakeover { get; init; } = true;
}

/// <summary>Whole hand-overs of a session, with their results.</summary>
internal static partial class CprTransfers
{
    private const string Kind = "cpr";

    /// <summary>Hands entries over to the process that listens on a socket.</summary>
    /// <param name="session">The hand-over.</param>
    /// <param name="path">The socket.</param>
    /// <param name="uri">What the result calls it.</param>
    /// <param name="entries">Newest first, out of the session's registry.</param>
    /// <param name="options">How.</param>
    /// <param name="scope">Deadline and cancellation.</param>
    /// <param name="logger">Told who got it.</param>
    /// <exception cref="CprException">Nothing was sent, or the new process did not take it over.</exception>
    public static CprStateTransfer Send(
        CprSession session, string path, string uri, IReadOnlyList<CprEntry> entries, CprSendOptions options, TransferScope scope, ILogger logger)
    {
        ArgumentNullException.ThrowIfNull(session);
        ArgumentNullException.ThrowIfNull(entries);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(scope);
        long start = Stopwatch.GetTimestamp();
        var sender = session.Send(path, entries, options.Layout, options.AllowLoss, scope);
        try
        {
            string peer = PeerProcessInfo.Of(sender.Peer).ToString();
            LogSent(logger, peer, sender.ByteCount, entries.Count);
            if (options.WaitForTakeover)
            {
                sender.WaitForTakeover(scope.StartDeadline());
            }

            return Record(new CprStateTransfer
            {
                Peer = peer,
                Uri = uri,
                Entries = entries.Count,
                Bytes = sender.ByteCount,
                Duration = Stopwatch.GetElapsedTime(start),
                TakenOver = options.WaitForTakeover,
            });
        }
        finally
        {
            // Taken over or not, the target no longer needs this channel; after a failure another one may be tried.
            if (options.WaitForTakeover)
            {
                session.CloseTarget();
            }
        }
    }

    /// <summary>Writes what would be handed over into a file, without any descriptor.</summary>
    /// <param name="session">The hand-over.</param>
    /// <param name="path">The file; replaced as a whole.</param>
    /// <param name="entries">What it describes.</param>
    /// <param name="scope">Deadline and cancellation.</param>
    public static CprStateTransfer Describe(CprSession session, string path, IReadOnlyList<CprEntry> entries, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(session);
        ArgumentNullException.ThrowIfNull(entries);
        long start = Stopwatch.GetTimestamp();
        long bytes = CprDescription.Write(path, entries.Select(CprFdInspector.Describe), session.VfioDevices, scope);
        return new CprStateTransfer { Path = path, Entries = entries.Count, Bytes = bytes, Duration = Stopwatch.GetElapsedTime(start) };
    }

    /// <summary>Exposes entries to the programs that this process starts, as cpr-exec does.</summary>
    /// <param name="session">The hand-over.</param>
    /// <param name="entries">Newest first, out of the session's registry.</param>
    /// <param name="allowLoss">True to expose a set that lacks received entries or devices.</param>
    public static CprStateTransfer Expose(CprSession session, IReadOnlyList<CprEntry> entries, bool allowLoss)
    {
        ArgumentNullException.ThrowIfNull(session);
        ArgumentNullException.ThrowIfNull(entries);
        long start = Stopwatch.GetTimestamp();
        var state = session.SendExec(entries, allowLoss);
        return Record(new CprStateTransfer
        {
            Uri = $"{CprExecState.VariableName}={state.VariableValue}",
            Entries = entries.Count,
            Bytes = state.ByteCount,
            Duration = Stopwatch.GetElapsedTime(start),
        });
    }

    /// <summary>Accepts one process and takes its descriptors over; the channel to it stays open.</summary>
    /// <param name="session">The hand-over, whose registry is filled.</param>
    /// <param name="listener">Stays the caller's.</param>
    /// <param name="allowedUsers">User ids that may send.</param>
    /// <param name="logger">Told who sent it.</param>
    /// <returns>What was received, newest first.</returns>
    public static IReadOnlyList<CprEntry> Receive(
        CprSession session, CprListener listener, IReadOnlyCollection<uint> allowedUsers, ILogger logger)
    {
        ArgumentNullException.ThrowIfNull(session);
        long start = Stopwatch.GetTimestamp();
        var (entries, bytes) = session.Receive(listener, allowedUsers);
        TransferMetrics.Record(Kind, "receive", bytes, Stopwatch.GetElapsedTime(start));
        LogReceived(logger, PeerProcessInfo.Of(session.Incoming!.Peer).ToString(), bytes, entries.Count);
        return entries;
    }

    /// <summary>Takes over what cpr-exec has left for this process, and clears the variable that named it.</summary>
    /// <param name="session">The hand-over, whose registry is filled.</param>
    public static IReadOnlyList<CprEntry> ReceiveExec(CprSession session)
    {
        ArgumentNullException.ThrowIfNull(session);
        long start = Stopwatch.GetTimestamp();
        var (entries, bytes) = session.ReceiveExec(Environment.GetEnvironmentVariable(CprExecState.VariableName));
        TransferMetrics.Record(Kind, "receive", bytes, Stopwatch.GetElapsedTime(start));
        // The descriptor that it names is ours now.
        Environment.SetEnvironmentVariable(CprExecState.VariableName, null);
        return entries;
    }

    private static CprStateTransfer Record(CprStateTransfer result)
    {
        TransferMetrics.Record(Kind, "send", result.Bytes, result.Duration);
        return result;
    }

    [LoggerMessage(1, LogLevel.Information, "{Peer} handed {Count} descriptors over in a state of {Bytes} bytes")]
    private static partial void LogReceived(ILogger logger, string peer, long bytes, int count);

    [LoggerMessage(2, LogLevel.Information, "{Count} descriptors went to {Peer} in a state of {Bytes} bytes")]
    private static partial void LogSent(ILogger logger, string peer, long bytes, int count);
}
