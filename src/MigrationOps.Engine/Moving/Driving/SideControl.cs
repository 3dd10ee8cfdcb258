using System.Diagnostics;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Moving;

/// <summary>How a command ended that lets a VM run.</summary>
internal enum ContinueOutcome
{
    /// <summary>It runs.</summary>
    Runs,

    /// <summary>QEMU refused: it does not run.</summary>
    Refused,

    /// <summary>No answer tells.</summary>
    Unknown,
}

/// <summary>The steps at one side that a move and its repair have in common. Each waits for its effect.</summary>
internal static class SideControl
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan CancelGrace = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan MostForQuit = TimeSpan.FromSeconds(10);

    /// <summary>Cancels the source's migration and waits until it has ended; by yank if it does not end by itself.</summary>
    /// <returns>What the source says at last.</returns>
    internal static async Task<SideAnswer> CancelAsync(QmpMonitor source, TimeSpan patience)
    {
        var answer = await SideAnswer.AskAsync(source, null, CancellationToken.None).ConfigureAwait(false);
        if (!answer.IsMigrating)
        {
            return await SettleAsync(source, patience).ConfigureAwait(false);
        }

        if (answer.Migration != "cancelling")
        {
            await IgnoreRefusalAsync(() => source.ExecuteAsync(new QmpCommand("migrate_cancel"), null, CancellationToken.None)).ConfigureAwait(false);
        }

        answer = await WaitAsync(source, said => !said.IsMigrating, CancelGrace < patience ? CancelGrace : patience).ConfigureAwait(false);
        if (answer.IsMigrating)
        {
            await YankAsync(source).ConfigureAwait(false);
        }

        return await SettleAsync(source, patience).ConfigureAwait(false);
    }

    /// <summary>
    /// Waits until the end of a migration is finalized: QEMU says 'failed' a while before the guest runs again.
    /// </summary>
    internal static Task<SideAnswer> SettleAsync(QmpMonitor source, TimeSpan patience)
        => WaitAsync(source, said => !said.IsMigrating && (said.RunState != "finish-migrate" || said.Migration is null or "none"), patience);

    /// <summary>Shuts the sockets of the migration down, beside QEMU's queue and lock.</summary>
    internal static async Task YankAsync(QmpMonitor monitor)
    {
        var arguments = new JsonObject { ["instances"] = new JsonArray(new JsonObject { ["type"] = "migration" }) };
        await IgnoreRefusalAsync(() => monitor.ExecuteAsync(new QmpCommand("yank", arguments, monitor.OutOfBand), null, CancellationToken.None)).ConfigureAwait(false);
    }

    /// <summary>Asks a side until it says what is wanted, or the patience ends.</summary>
    /// <returns>Its last answer.</returns>
    internal static async Task<SideAnswer> WaitAsync(QmpMonitor monitor, Func<SideAnswer, bool> isWanted, TimeSpan patience)
    {
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            var answer = await SideAnswer.AskAsync(monitor, null, CancellationToken.None).ConfigureAwait(false);
            if (isWanted(answer) || Stopwatch.GetElapsedTime(start) > patience)
            {
                return answer;
            }

            await Task.Delay(Look).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// Lets a VM run, and makes sure that it does. A lost answer is asked after: commands of one connection are carried out in their order, and
    /// those of a closed one not at all, so that an answer to query-status tells what 'cont' did. 'cont' to a running VM does nothing.
    /// </summary>
    /// <param name="monitor">The side.</param>
    /// <param name="patience">How long to ask.</param>
    /// <returns>What is known, with QEMU's words if it refused, and the last failure if nothing is known.</returns>
    internal static async Task<(ContinueOutcome Outcome, string? Words)> ContinueAsync(QmpMonitor monitor, TimeSpan patience)
    {
        long start = Stopwatch.GetTimestamp();
        string? words = null;
        do
        {
            bool refused = false;
            try
            {
                await monitor.ExecuteAsync(new QmpCommand("cont"), null, CancellationToken.None).ConfigureAwait(false);
            }
            catch (MigrationOpsException e)
            {
                refused = e is QmpException { Reason: QmpError.CommandFailed };
                words = (e as QmpException)?.QemuDescription ?? e.Message;
            }

            try
            {
                var answer = await SideAnswer.AskAsync(monitor, null, CancellationToken.None).ConfigureAwait(false);
                if (answer.Runs || answer.RunState is not ("paused" or "prelaunch" or "postmigrate" or "finish-migrate" or "inmigrate" or "suspended"))
                {
                    // A guest that has panicked or shut down since has run.
                    return (ContinueOutcome.Runs, answer.Runs ? null : answer.RunState);
                }

                if (refused)
                {
                    return (ContinueOutcome.Refused, words);
                }

                words ??= $"It is '{answer.RunState}' after cont.";
            }
            catch (MigrationOpsException e)
            {
                words = e.Message;
                if (IsGone(e))
                {
                    return (ContinueOutcome.Unknown, words);
                }
            }

            await Task.Delay(Look).ConfigureAwait(false);
        }
        while (Stopwatch.GetElapsedTime(start) < patience);
        return (ContinueOutcome.Unknown, words);
    }

    /// <summary>Ends a QEMU.</summary>
    /// <returns>True if it has ended or will not answer again: its monitor is gone.</returns>
    internal static async Task<bool> QuitAsync(QmpMonitor monitor)
    {
        try
        {
            await monitor.ExecuteAsync(new QmpCommand("quit"), MostForQuit, CancellationToken.None).ConfigureAwait(false);
            return await WaitForEndAsync(monitor, MostForQuit).ConfigureAwait(false);
        }
        catch (MigrationOpsException e)
        {
            return IsGone(e) || await WaitForEndAsync(monitor, MostForQuit).ConfigureAwait(false);
        }
    }

    /// <summary>Waits until the QEMU behind a monitor is gone.</summary>
    internal static async Task<bool> WaitForEndAsync(QmpMonitor monitor, TimeSpan patience)
    {
        long start = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(start) < patience)
        {
            try
            {
                await monitor.ExecuteAsync(new QmpCommand("query-status"), null, CancellationToken.None).ConfigureAwait(false);
            }
            catch (MigrationOpsException e)
            {
                if (IsGone(e))
                {
                    return true;
                }
            }

            await Task.Delay(Look).ConfigureAwait(false);
        }

        return false;
    }

    /// <summary>True if a failure says that this QEMU is not there any more.</summary>
    internal static bool IsGone(MigrationOpsException failure) => failure is QmpException { Reason: QmpError.QemuExited or QmpError.DifferentQemu }
        or Wire.WireException { Reason: Wire.WireError.NotFound or Wire.WireError.ConnectFailed };

    /// <summary>Runs a command whose refusal changes nothing: the state is asked for afterwards.</summary>
    internal static async Task IgnoreRefusalAsync(Func<Task> run)
    {
        try
        {
            await run().ConfigureAwait(false);
        }
        catch (QmpException)
        {
            // The state tells.
        }
    }
}
