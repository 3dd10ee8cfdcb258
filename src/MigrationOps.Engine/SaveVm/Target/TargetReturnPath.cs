using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>The target's end of the return path: opened by the source's command, used by any thread.</summary>
internal sealed class TargetReturnPath(TargetSession session, ILogger logger)
{
    private ReturnPathWriter? _writer;

    /// <summary>Which devices have still to approve the switchover.</summary>
    internal SwitchoverApproval Approval { get; } = new();

    /// <summary>A new connection after a pause: the source does not open the return path again.</summary>
    internal void Renew(ReturnPathWriter? writer) => _writer = writer;

    /// <summary>Obeys the source that asks for it.</summary>
    internal void Open(IncomingStream input, long offset)
    {
        var writer = _writer ??= session.Options.ReturnPath ? new ReturnPathWriter(session.Connection)
            : throw SaveVmException.At(SaveVmError.NotSupported, offset, "The source asks for a return path, which this connection does not have");
        Answer(input, offset, () => Approval.Open(writer));
    }

    /// <summary>Fails if the return path is required and not open: sources open it before their first section, and later is too late to stop one.</summary>
    internal void Check(StreamElement element, long offset)
    {
        if (session.Options.RequireReturnPath && _writer is null && element is not StreamCommand)
        {
            throw SaveVmException.At(SaveVmError.ReturnPathMissing, offset,
                $"{(element is StreamEnd ? "The end mark" : "The first section")} comes, and the source has not opened the return path");
        }
    }

    /// <summary>Answers the source, which must have opened the return path.</summary>
    internal void Answer(IncomingStream input, long offset, Action<ReturnPathWriter> answer)
    {
        var writer = _writer ?? throw StreamException.At(StreamError.InvalidCommand, offset, "The source expects an answer before the return path is open");
        Answer(input, offset, () => answer(writer));
    }

    /// <summary>A device approves the switchover.</summary>
    internal void Approve(EntryContext context) => Answer(session.Input, session.Input.Offset, () => Approval.Give(context));

    /// <summary>Says that everything was loaded, if the source listens.</summary>
    internal void TellLoaded() => Answer(session.Input, session.Input.Offset, () => _writer?.Shut(0));

    /// <summary>The same in postcopy: the device runs here and has everything, so that a source that cannot be told is a warning.</summary>
    internal string? TellFinished()
    {
        try
        {
            _writer?.Shut(0);
            return null;
        }
        catch (Exception e) when (e is WireException or IOException)
        {
            return $"The source could not be told that everything has arrived: {e.Message} Its migration stays paused; give it up there.";
        }
    }

    /// <summary>Tells the source that this side failed; the source may be gone already. Any thread may call it.</summary>
    internal void TellFailure()
    {
        if (!session.Postcopy.ForbidStart())
        {
            // The device runs: the source learns of the lost connection, and pauses like this side.
            return;
        }

        try
        {
            _writer?.Shut(1);
        }
        catch (Exception e) when (e is WireException or IOException or ObjectDisposedException or OperationCanceledException)
        {
            SaveVmLog.Warning(logger, $"The source could not be told that the target failed: {e.Message}");
        }
    }

    /// <summary>Asks for pages. A source that is gone is noticed by the driver's thread; who asks is a device that cannot help it.</summary>
    internal void Request(SaveVmPages pages)
    {
        try
        {
            _writer?.Request(pages);
        }
        catch (Exception e) when (e is WireException or IOException or ObjectDisposedException)
        {
            SaveVmLog.Warning(logger, $"Pages of '{pages.Block}' could not be asked for: {e.Message}");
        }
    }

    private static void Answer(IncomingStream input, long offset, Action answer)
    {
        try
        {
            answer();
        }
        catch (Exception e) when (e is WireException or IOException)
        {
            throw input.Fail(StreamFailure.Of(e, offset, "return path"));
        }
    }
}
