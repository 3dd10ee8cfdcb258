using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>The end of a migration on the target, when everything has been loaded: tells the source, and reads what may follow the end mark.</summary>
/// <param name="loader">The main stream, up to its end mark.</param>
/// <param name="parts">The target's parts.</param>
/// <param name="channels">The multifd channels, or null.</param>
/// <param name="tally">Told how the migration ends.</param>
/// <param name="run">The run.</param>
/// <param name="start">Runs the device; null if the caller starts it elsewhere.</param>
internal sealed class TargetCompletion(
    StreamLoader loader, TargetParts parts, IncomingChannels? channels, TargetTally tally, MigrationRun run, Action? start)
{
    internal void Finish()
    {
        var clock = new PartClock();
        if (parts.Postcopy.Runs)
        {
            run.LogPhase("postcopy completed");
            Warn(parts.ReturnPath.SendFinished());
            return;
        }

        // The source forgets its device once it is told, so that everything must be safe before.
        parts.Sections.Spool?.Complete(loader.Input);
        parts.ReturnPath.SendLoaded();
        tally.SourceWasTold = true;
        parts.Downtime.Complete = clock.Next();
        run.LogPhase("loaded");
        SkipRest();
        loader.Caller.Device("started", start);
    }

    private void SkipRest()
    {
        try
        {
            SkipDescription();
            Warn(channels?.Finish());
        }
        catch (Exception e) when (e is OperationCanceledException
            or SaveVmException { Reason: SaveVmError.ConnectionLost or SaveVmError.PeerSilent } or StreamException { Reason: StreamError.Truncated })
        {
            // Everything is loaded, and the source has been told so and gives its device up. QEMU does not care either.
            Warn($"What may follow the end mark could not be read: {e.Message}");
        }
    }

    // A source that is closed upon with its last bytes unread would see its connection reset.
    private void SkipDescription()
    {
        var input = loader.Input;
        if (input.Peek() != StreamFormat.Description)
        {
            return;
        }

        int length = ((DescriptionHeader)input.ReadElement()).Length;
        int there = input.Skip(length);
        Warn(there < length ? $"The stream's description is cut: {there:N0} of its {length:N0} bytes are there." : null);
    }

    private void Warn(string? warning)
    {
        if (warning is not null)
        {
            tally.Warnings.Add(warning);
        }
    }
}
