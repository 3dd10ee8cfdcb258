using System.Buffers.Binary;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>Where a target stands in postcopy.</summary>
internal enum PostcopyState
{
    /// <summary>The source has not announced it.</summary>
    None,

    /// <summary>The source may switch later.</summary>
    Advised,

    /// <summary>Pages have been discarded; the switch has begun.</summary>
    Discarding,

    /// <summary>Pages may be asked for; the device state follows.</summary>
    Listening,

    /// <summary>The device is being started.</summary>
    Starting,

    /// <summary>The device could not be started, or its state is unknown.</summary>
    StartFailed,

    /// <summary>The device runs.</summary>
    Running,

    /// <summary>The device runs; a new connection is there, and the source finds out what is missing.</summary>
    Recovering,
}

/// <summary>
/// How far postcopy has come on the target, over all connections: which command may come when, as QEMU's loadvm_postcopy_handle_… have it.
/// <code>
/// None → ADVISE → Advised → DISCARD* → Discarding → LISTEN → Listening → RUN → Running → EOF
///   after a pause: Recovering → ( RECV_BITMAP )* → RESUME → Running
/// </code>
/// </summary>
internal sealed class PostcopyTarget
{
    private readonly Lock _gate = new();
    private volatile PostcopyState _state;
    private bool _startForbidden;

    /// <summary>True once the device runs here, whatever happens to the connection.</summary>
    internal bool Runs => _state >= PostcopyState.Running;

    /// <summary>How often it was resumed after a pause.</summary>
    internal int Recoveries { get; private set; }

    /// <summary>Whose the VM is, should the migration fail now.</summary>
    internal MigrationOwner Owner => _state switch
    {
        PostcopyState.Starting or PostcopyState.StartFailed => MigrationOwner.Unknown,
        >= PostcopyState.Running => MigrationOwner.Target,
        _ => MigrationOwner.Source,
    };

    /// <summary>
    /// From now on the device is not started any more, because the source is told that it may resume its own. False if it was started before, or
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

    /// <summary>The starting thread has ended; if the device is not running, its state is unknown.</summary>
    internal void StartEnded()
    {
        lock (_gate)
        {
            _state = _state == PostcopyState.Starting ? PostcopyState.StartFailed : _state;
        }
    }

    /// <summary>The connection is lost.</summary>
    internal void Pause()
    {
        if (Runs)
        {
            _state = PostcopyState.Recovering;
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

    /// <summary>Fails unless a command comes in one of the states in which it may.</summary>
    internal void Expect(StreamCommand command, long offset, params ReadOnlySpan<PostcopyState> states)
    {
        if (!states.Contains(_state))
        {
            throw StreamException.At(StreamError.InvalidCommand, offset, $"{command.Id} comes while postcopy's state is {_state}");
        }
    }

    /// <summary>A command has been executed.</summary>
    internal void Enter(PostcopyState state) => _state = state;

    /// <summary>The source continues over a new connection.</summary>
    internal void Resume()
    {
        _state = PostcopyState.Running;
        Recoveries++;
    }

    /// <summary>Starts the device, unless the source was told that it may continue with its own.</summary>
    internal void Start(Action start)
    {
        lock (_gate)
        {
            if (_startForbidden)
            {
                throw new OperationCanceledException("The source was told that the migration has failed.");
            }

            _state = PostcopyState.Starting;
        }

        start();
        lock (_gate)
        {
            _state = _state == PostcopyState.Starting ? PostcopyState.Running : _state;
        }
    }
}
