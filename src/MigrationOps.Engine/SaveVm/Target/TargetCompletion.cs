using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.SaveVm;

/// <summary>The end of a migration on the target, when everything has been loaded: tells the source, and reads what may follow the end mark.</summary>
internal sealed class TargetCompletion(TargetSession session, ILogger logger)
{
    private readonly List<string> _warnings = [];

    /// <summary>True once the source was told that everything was loaded, in a migration that stayed in pre-copy.</summary>
    internal bool Told { get; private set; }

    internal IReadOnlyList<string> Warnings => _warnings;

    internal void Finish()
    {
        var clock = new PartClock();
        if (session.Postcopy.Runs)
        {
            SaveVmLog.Phase(logger, "postcopy completed");
            Warn(session.ReturnPath.TellFinished());
            return;
        }

        // The source forgets its device once it is told, so that everything must be safe before.
        session.Spool?.Complete(session.Input);
        session.ReturnPath.TellLoaded();
        Told = true;
        session.Downtime.Complete = clock.Next();
        SaveVmLog.Phase(logger, "loaded");
        SkipRest();
        session.StartDevice(session.Main);
    }

    private void SkipRest()
    {
        try
        {
            SkipDescription();
            Warn(session.Channels?.Finish());
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
        var input = session.Input;
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
            _warnings.Add(warning);
        }
    }
}
