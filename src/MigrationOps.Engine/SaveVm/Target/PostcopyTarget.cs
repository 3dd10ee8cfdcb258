using System.Buffers.Binary;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>Where a target stands in postcopy.</summary>
internal enum PostcopyState
{
    /// <summary>Nobody has spoken of it.</summary>
    None,

    /// <summary>The source may switch later.</summary>
    Advised,

    /// <summary>Pages have been discarded; the switch has begun.</summary>
    Discarding,

    /// <summary>Pages may be asked for; the device state follows.</summary>
    Listening,

    /// <summary>The device is being started.</summary>
    Starting,

    /// <summary>The device could not be started, or nobody knows.</summary>
    StartFailed,

    /// <summary>The device runs.</summary>
    Running,

    /// <summary>The device runs; a new connection is there, and the source finds out what is missing.</summary>
    Recovering,
}

/// <summary>
/// Postcopy on the target: which command may come when, as QEMU's loadvm_postcopy_handle_… have it.
/// <code>
/// None → ADVISE → Advised → DISCARD* → Discarding → LISTEN → Listening → RUN → Running → EOF
///   after a pause: Recovering → ( RECV_BITMAP )* → RESUME → Running
/// </code>
/// </summary>
internal sealed class PostcopyTarget(TargetSession session, SaveVmTargetOptions options, ILogger logger)
{
    private readonly Lock _gate = new();
    private volatile PostcopyState _state;
    private bool _startForbidden;

    internal PostcopyState State => _state;

    /// <summary>True once the device runs here, whatever happens to the connection.</summary>
    internal bool Runs => _state >= PostcopyState.Running;

    /// <summary>How often it went on after a pause.</summary>
    internal int Recoveries { get; private set; }

    /// <summary>Whose the VM is, should the migration fail now.</summary>
    internal MigrationOwner Owner => _state switch
    {
        PostcopyState.Starting or PostcopyState.StartFailed => MigrationOwner.Unknown,
        >= PostcopyState.Running => MigrationOwner.Target,
        _ => MigrationOwner.Source,
    };

    /// <summary>Does what a command of postcopy asks for.</summary>
    internal void Obey(StreamCommand command, long offset, StreamLoader loader)
    {
        if (!loader.Input.IsPackage)
        {
            // The command comes after the package, whatever it is.
            session.Package.Join();
        }

        switch (command.Id)
        {
            case StreamCommandId.PostcopyAdvise:
                Expect(command, offset, PostcopyState.None);
                Advise(command.Data, offset);
                _state = PostcopyState.Advised;
                break;
            case StreamCommandId.PostcopyRamDiscard:
                Expect(command, offset, PostcopyState.Advised, PostcopyState.Discarding);
                Discard(command.Data, offset, loader);
                _state = PostcopyState.Discarding;
                break;
            case StreamCommandId.Packaged:
                Expect(command, offset, PostcopyState.Advised, PostcopyState.Discarding, PostcopyState.Listening);
                session.Package.Load(loader, BinaryPrimitives.ReadUInt32BigEndian(command.Data), offset);
                break;
            case StreamCommandId.PostcopyListen:
                Expect(command, offset, PostcopyState.Advised, PostcopyState.Discarding);
                _state = PostcopyState.Listening;
                Allow(session.ReturnPath.Request);
                session.Package.Listen();
                break;
            case StreamCommandId.PostcopyRun:
                Expect(command, offset, PostcopyState.Listening);
                loader.EndPackage(offset, "POSTCOPY_RUN");
                session.JoinThreads();
                Start(loader);
                break;
            case StreamCommandId.ReceivedBitmap:
                Expect(command, offset, PostcopyState.Recovering);
                Report(command.Data, offset, loader);
                break;
            case StreamCommandId.PostcopyResume:
                Expect(command, offset, PostcopyState.Recovering);
                _state = PostcopyState.Running;
                loader.Answer(offset, path => path.Resumed());
                Recoveries++;
                Allow(session.ReturnPath.Request);
                SaveVmLog.Phase(logger, "postcopy goes on");
                break;
            default:
                throw SaveVmException.At(SaveVmError.NotSupported, offset, $"The command {command.Id} belongs to a feature that this driver does not have");
        }
    }

    /// <summary>
    /// From now on the device is not started any more, because the source is told that it may go on with its own. False if it was started before, or
    /// is being started.
    /// </summary>
    internal bool ForbidStart()
    {
        lock (_gate)
        {
            _startForbidden |= _state is not PostcopyState.Starting && !Runs;
            return _startForbidden;
        }
    }

    /// <summary>Who was to start the device has ended: if it does not run by now, nobody knows whether it does.</summary>
    internal void StartEnded()
    {
        lock (_gate)
        {
            _state = _state == PostcopyState.Starting ? PostcopyState.StartFailed : _state;
        }
    }

    /// <summary>The connection is lost; wishes for pages have nowhere to go until it is back.</summary>
    internal void Pause()
    {
        if (Runs)
        {
            _state = PostcopyState.Recovering;
            Allow(_ => { });
        }
    }

    /// <summary>Fails if a section or the end mark comes where only commands may come.</summary>
    internal void CheckElement(StreamElement element, long offset)
    {
        string? wrong = (element, _state) switch
        {
            (StreamCommand, _) => null,
            (_, PostcopyState.Recovering) => "comes over a new connection before POSTCOPY_RESUME",
            (StreamEnd, PostcopyState.Discarding or PostcopyState.Listening) => "comes after the switch to postcopy and before POSTCOPY_RUN",
            _ => null,
        };
        if (wrong is not null)
        {
            throw StreamException.At(StreamError.InvalidCommand, offset, $"{(element is StreamEnd ? "The end mark" : "A section")} {wrong}");
        }
    }

    private void Start(StreamLoader loader)
    {
        lock (_gate)
        {
            if (_startForbidden)
            {
                throw new OperationCanceledException("The source was told that the migration has failed.");
            }

            _state = PostcopyState.Starting;
        }

        session.StartDevice(loader);
        lock (_gate)
        {
            _state = _state == PostcopyState.Starting ? PostcopyState.Running : _state;
        }

        SaveVmLog.Phase(logger, "the device runs");
    }

    private void Expect(StreamCommand command, long offset, params ReadOnlySpan<PostcopyState> states)
    {
        if (!options.Postcopy)
        {
            throw SaveVmException.At(SaveVmError.NotSupported, offset, $"The source sends {command.Id}, and postcopy is not allowed here");
        }

        if (!states.Contains(_state))
        {
            throw StreamException.At(StreamError.InvalidCommand, offset, $"{command.Id} comes while postcopy's state is {_state}");
        }
    }

    private void Advise(byte[] data, long offset)
    {
        if (data.Length is not (0 or 16))
        {
            throw StreamException.At(StreamError.InvalidCommand, offset, $"Command {StreamCommandId.PostcopyAdvise} has {data.Length} bytes of data, expected 0 or 16");
        }

        long? sizes = data.Length == 0 ? null : BinaryPrimitives.ReadInt64BigEndian(data);
        string? wrong = options.RamPageSizes is { } ours && ours != sizes
                ? sizes is null ? "The source announces postcopy without memory" : $"The source's memory has pages of 0x{sizes:x} bytes, and 0x{ours:x} are expected"
            : sizes is not null && options.PageBits is { } bits && BinaryPrimitives.ReadInt64BigEndian(data.AsSpan(8)) is var page && page != 1L << bits
                ? $"The source's machine has pages of {page:N0} bytes, and {1L << bits:N0} are expected"
            : null;
        if (wrong is not null)
        {
            throw SaveVmException.At(SaveVmError.ConfigurationMismatch, offset, wrong);
        }
    }

    private void Discard(byte[] data, long offset, StreamLoader loader)
    {
        var ranges = PostcopyCodec.ReadDiscard(data)
            ?? throw StreamException.At(StreamError.InvalidCommand, offset, $"{StreamCommandId.PostcopyRamDiscard} does not carry a block and its ranges");
        foreach (var range in ranges)
        {
            if (Ask(loader, nameof(ISaveVmPages.DiscardPages), (device, context) => device.DiscardPages(range, context) ? range.Block : null) is null)
            {
                throw NoSuchBlock(range.Block, offset);
            }
        }
    }

    private void Report(byte[] data, long offset, StreamLoader loader)
    {
        string block = PostcopyCodec.ReadName(data)
            ?? throw StreamException.At(StreamError.InvalidCommand, offset, $"{StreamCommandId.ReceivedBitmap} does not name a block");
        byte[] bitmap = Ask(loader, nameof(ISaveVmPages.ReceivedPages), (device, context) => device.ReceivedPages(block, context)) ?? throw NoSuchBlock(block, offset);
        loader.Answer(offset, path => path.Received(block, bitmap));
    }

    private T? Ask<T>(StreamLoader loader, string member, Func<ISaveVmPages, SaveVmContext, T?> question)
        where T : class
    {
        foreach (var context in session.Contexts)
        {
            if (context.Entry.Handlers is ISaveVmPages device
                && loader.Caller.Call(context.Entry, member, () => question(device, context)) is { } answer)
            {
                return answer;
            }
        }

        return null;
    }

    private void Allow(Action<SaveVmPages> request)
    {
        foreach (var context in session.Contexts)
        {
            context.PagesWanted = request;
        }
    }

    private static SaveVmException NoSuchBlock(string block, long offset)
        => SaveVmException.At(SaveVmError.UnknownSection, offset, $"The source names RAM block '{block}', which is not registered here");
}
