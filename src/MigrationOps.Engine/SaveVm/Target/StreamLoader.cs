using System.Buffers.Binary;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Loads the elements of one stream on the target, as QEMU's qemu_loadvm_state_main: those of the main stream, or those of postcopy's
/// package, which is loaded on a thread of its own while the main stream goes on.
/// </summary>
internal sealed class StreamLoader(TargetSession session, IncomingStream input, HandlerCaller caller, ILogger logger)
{
    internal IncomingStream Input => input;

    internal HandlerCaller Caller => caller;

    /// <summary>Loads up to the end mark, or to the end of the package.</summary>
    internal void Run()
    {
        try
        {
            while (LoadElement())
            {
                if (!input.IsPackage)
                {
                    session.Progressed();
                }
            }
        }
        catch (MigrationOpsException e) when (!input.IsPackage && e is SaveVmException { Reason: SaveVmError.ConnectionLost } or StreamException { Reason: StreamError.Truncated } && session.Package.IsLoading)
        {
            // What the device needs to run may all be in the package: then it runs, and the rest comes over a new connection.
            session.Package.Lose(e);
            session.Package.Join();
            throw;
        }
    }

    /// <summary>Asks the device's question if it has one; a device that does not say is active.</summary>
    internal bool IsActive(EntryContext context)
        => !context.Entry.Has(SaveVmHandler.IsActive)
            || caller.Call(context.Entry, SaveVmHandler.IsActive, () => context.Entry.Handlers.IsActive(context));

    /// <summary>Sends an answer to what stands at that byte.</summary>
    internal void Answer(long offset, Action<ReturnPathWriter> answer) => session.ReturnPath.Answer(input, offset, answer);

    /// <summary>The package, if this is one, must be over: what follows in it would never be loaded.</summary>
    internal void EndPackage(long offset, string mark)
    {
        if (input.PackageLeft is > 0 and var left)
        {
            throw input.Fail(StreamException.At(StreamError.InvalidPackage, offset, $"{left:N0} bytes of the package follow {mark}"));
        }
    }

    private bool LoadElement()
    {
        if (input.PackageLeft == 0)
        {
            return false;
        }

        long offset = input.Offset;
        var element = input.ReadElement();
        if (element is StreamEnd && !input.IsPackage)
        {
            // The source has sent everything; what came before is still to be loaded.
            session.Package.Join();
        }

        session.Postcopy.CheckElement(element, offset);
        session.ReturnPath.Check(element, offset);
        switch (element)
        {
            case StreamSection start:
                session.Sections.Begin(this, start, offset);
                return true;
            case SectionPart part:
                session.Sections.Continue(this, part, offset);
                return true;
            case StreamCommand command:
                Obey(command, offset);
                return true;
            case StreamEnd:
                EndPackage(offset, "the end mark");
                return false;
            case var other:
                throw StreamException.At(StreamError.UnknownElement, offset, $"Expected a section or a command, found a {other.GetType().Name}");
        }
    }

    private void Obey(StreamCommand command, long offset)
    {
        switch (command.Id)
        {
            case StreamCommandId.OpenReturnPath:
                session.ReturnPath.Open(input, offset);
                break;
            case StreamCommandId.Ping:
                uint value = BinaryPrimitives.ReadUInt32BigEndian(command.Data);
                if (input.IsPackage && value == PostcopyCodec.PackageLoadedOrResume)
                {
                    session.Package.CheckConnection();
                }

                Answer(offset, path => path.Pong(value));
                break;
            case StreamCommandId.SwitchoverStart:
                SwitchoverStart();
                break;
            default:
                session.Postcopy.Obey(command, offset, this);
                break;
        }
    }

    private void SwitchoverStart()
    {
        SaveVmLog.Phase(logger, "switchover");
        using var part = session.Downtime.MeasureSwitchover(input);
        foreach (var context in session.Contexts)
        {
            var entry = context.Entry;
            if (entry.Has(SaveVmHandler.SwitchoverStart) && IsActive(context))
            {
                caller.Call(entry, SaveVmHandler.SwitchoverStart, () => entry.Handlers.SwitchoverStart(context));
            }
        }
    }
}
