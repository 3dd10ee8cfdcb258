using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Loads the elements of one stream on the target, as QEMU's qemu_loadvm_state_main: those of the main stream, or those of postcopy's
/// package, which is loaded on a thread of its own while the main stream continues.
/// </summary>
/// <param name="run">The run, whose handlers read this stream.</param>
/// <param name="input">The stream.</param>
/// <param name="parts">Who takes what its elements say.</param>
/// <param name="progressed">Called after each element of the main stream.</param>
internal sealed class StreamLoader(MigrationRun run, IncomingStream input, TargetParts parts, Action progressed)
{
    private readonly HandlerCaller _caller = run.Caller;

    internal IncomingStream Input => input;

    internal TargetParts Parts => parts;

    internal HandlerCaller Caller => _caller;

    /// <summary>Loads another stream with the same parts.</summary>
    internal StreamLoader Over(MigrationRun other, IncomingStream stream) => new(other.Over(stream), stream, parts, progressed);

    /// <summary>Loads up to the end mark, or to the end of the package.</summary>
    internal void Run()
    {
        try
        {
            while (LoadElement())
            {
                if (!input.IsPackage)
                {
                    progressed();
                }
            }
        }
        catch (MigrationOpsException e) when (!input.IsPackage && e is SaveVmException { Reason: SaveVmError.ConnectionLost } or StreamException { Reason: StreamError.Truncated } && parts.Package.IsLoading)
        {
            // What the device needs to run may all be in the package: then it runs, and the rest comes over a new connection.
            parts.Package.MarkLost(e);
            parts.Package.Join();
            throw;
        }
    }

    /// <summary>Sends an answer to what stands at that byte.</summary>
    internal void Answer(long offset, Action<ReturnPathWriter> answer) => parts.ReturnPath.Answer(input, offset, answer);

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
            parts.Package.Join();
        }

        parts.Postcopy.CheckElement(element, offset);
        parts.ReturnPath.Check(element, offset);
        switch (element)
        {
            case StreamSection start:
                parts.Sections.Begin(this, start, offset);
                return true;
            case SectionPart part:
                parts.Sections.Continue(this, part, offset);
                return true;
            case StreamCommand command:
                Execute(command, offset);
                return true;
            case StreamEnd:
                EndPackage(offset, "the end mark");
                return false;
            case var other:
                throw StreamException.At(StreamError.UnknownElement, offset, $"Expected a section or a command, found a {other.GetType().Name}");
        }
    }

    private void Execute(StreamCommand command, long offset)
    {
        switch (command.Id)
        {
            case StreamCommandId.OpenReturnPath:
                parts.ReturnPath.Open(input, offset);
                break;
            case StreamCommandId.Ping:
                uint value = command.Value;
                if (input.IsPackage && value == PostcopyCodec.PackageLoadedOrResume)
                {
                    parts.Package.CheckConnection();
                }

                Answer(offset, path => path.Pong(value));
                break;
            case StreamCommandId.SwitchoverStart:
                SwitchoverStart();
                break;
            default:
                parts.Commands.Execute(command, offset, this);
                break;
        }
    }

    private void SwitchoverStart()
    {
        run.LogPhase("switchover");
        using var part = parts.Downtime.MeasureSwitchover(input);
        foreach (var context in parts.Contexts)
        {
            var entry = context.Entry;
            if (entry.Has(SaveVmHandler.SwitchoverStart) && _caller.IsActive(context))
            {
                _caller.Call(entry, SaveVmHandler.SwitchoverStart, () => entry.Handlers.SwitchoverStart(context));
            }
        }
    }
}

/// <summary>The parts of a target that the elements of a stream are for.</summary>
/// <param name="Contexts">The devices.</param>
/// <param name="Sections">Loads sections.</param>
/// <param name="ReturnPath">Answers the source.</param>
/// <param name="Postcopy">Knows what may come when.</param>
/// <param name="Commands">Executes the commands of postcopy.</param>
/// <param name="Package">Loads the package.</param>
/// <param name="Downtime">Measures the downtime.</param>
internal sealed record TargetParts(
    IReadOnlyList<EntryContext> Contexts, TargetSections Sections, TargetReturnPath ReturnPath, PostcopyTarget Postcopy,
    PostcopyCommands Commands, PostcopyPackage Package, DowntimeParts Downtime);
