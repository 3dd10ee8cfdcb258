using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>The target's end of one connection's return path: opened by the source's command, used by any thread.</summary>
/// <param name="options">Whether the connection has one, and whether the source must open it.</param>
/// <param name="approval">Which devices have still to approve the switchover.</param>
/// <param name="postcopy">Knows whether the device may run here.</param>
/// <param name="logger">Gets what could not be told.</param>
internal sealed class TargetReturnPath(SaveVmTargetOptions options, SwitchoverApproval approval, PostcopyTarget postcopy, ILogger logger)
{
    private volatile MainConnection? _main;
    private volatile ReturnPathWriter? _writer;

    /// <summary>The connection is there.</summary>
    /// <param name="connection">The connection; it stays the caller's.</param>
    /// <param name="main">The main stream, which fails with the return path.</param>
    /// <param name="isOpen">True after a pause: the source does not open the return path again.</param>
    internal void Connect(Stream connection, IncomingStream main, bool isOpen)
    {
        _main = new MainConnection(connection, main);
        _writer = isOpen && options.ReturnPath ? new ReturnPathWriter(connection) : null;
    }

    /// <summary>Opens it, because the source asks for it.</summary>
    internal void Open(IncomingStream input, long offset)
    {
        var writer = _writer ??= options.ReturnPath ? new ReturnPathWriter(Main.Connection)
            : throw SaveVmException.At(SaveVmError.NotSupported, offset, "The source asks for a return path, which this connection does not have");
        Answer(input, offset, () => approval.Open(writer));
    }

    /// <summary>Fails if the return path is required and not open: sources open it before their first section, and later is too late to stop one.</summary>
    internal void Check(StreamElement element, long offset)
    {
        if (options.RequireReturnPath && _writer is null && element is not StreamCommand)
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
    internal void Approve(EntryContext context) => Answer(Main.Stream, Main.Stream.Offset, () => approval.AddApproval(context));

    /// <summary>Says that everything was loaded, if the source listens.</summary>
    internal void SendLoaded() => Answer(Main.Stream, Main.Stream.Offset, () => _writer?.Shut(0));

    /// <summary>The same in postcopy: the device runs here and has everything, so that a lost answer to the source is a warning.</summary>
    internal string? SendFinished()
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
    internal void SendFailure()
    {
        if (!postcopy.ForbidStart())
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

    private MainConnection Main => _main ?? throw new InvalidOperationException("The connection of the migration is not there yet.");

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

    private sealed record MainConnection(Stream Connection, IncomingStream Stream);
}
