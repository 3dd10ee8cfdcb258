using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The package of device state with which postcopy starts the target. It is read whole and loaded on a thread of its own: from
/// POSTCOPY_LISTEN on the main stream is read at the same time, because a device in the package may need pages that come behind it.
/// </summary>
internal sealed class PostcopyPackage(TargetSession session, ILogger logger) : IDisposable
{
    private ManualResetEvent _listening = null!;
    private TransferScope _scope = null!;
    private SideThread? _thread;
    private volatile bool _leftBehind;
    private volatile Exception? _lost;

    /// <summary>True while a package is being loaded.</summary>
    internal bool IsLoading => _thread is { HasEnded: false };

    /// <summary>The bounds of the run that begins now.</summary>
    internal void Begin(TransferScope scope) => (_scope, _listening) = (scope, new ManualResetEvent(false));

    /// <summary>Pages may come from now on.</summary>
    internal void Listen() => _listening.Set();

    /// <summary>The connection is lost while the package is being loaded.</summary>
    internal void Lose(Exception failure) => _lost = failure;

    /// <summary>Fails if the connection is known to be lost.</summary>
    internal void CheckConnection()
    {
        if (_lost is { } lost)
        {
            HandlerWatch.Throw(lost);
        }
    }

    /// <summary>Reads the package and begins to load it; returns when the main stream may be read on.</summary>
    internal void Load(StreamLoader main, uint length, long offset)
    {
        var input = main.Input;
        if (input.IsPackage)
        {
            throw input.Fail(StreamException.At(StreamError.InvalidPackage, offset, "A package starts inside another one"));
        }

        if (length > session.Options.MaxPackage)
        {
            throw input.Fail(StreamException.At(StreamError.InvalidPackage, offset,
                $"A package of {length:N0} bytes is announced, and {session.Options.MaxPackage:N0} are taken at most"));
        }

        long start = input.Offset;
        var package = input.ReadPackage(length);
        _thread = SideThread.Start("postcopy package", _scope, () => Run(package, start), Failing);
        WaitHandle.WaitAny([_listening, _thread.Ended, _scope.CancellationToken.WaitHandle]);
        _scope.CancellationToken.ThrowIfCancellationRequested();
    }

    /// <summary>Waits until the package is loaded; each of its handlers has a deadline.</summary>
    internal void Join()
    {
        if (_thread is { } thread)
        {
            WaitHandle.WaitAny([thread.Ended, _scope.CancellationToken.WaitHandle]);
            // A failure of the thread has cancelled it.
            _scope.CancellationToken.ThrowIfCancellationRequested();
        }
    }

    /// <summary>Waits until its thread has ended, whose waits have been cancelled or have deadlines.</summary>
    /// <returns>False if a handler hangs and was left behind.</returns>
    internal bool End()
    {
        _thread?.Ended.WaitOne();
        return !_leftBehind;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _thread?.Dispose();
        _thread = null;
        _listening.Dispose();
    }

    private void Failing()
    {
        session.Postcopy.StartEnded();
        session.ReturnPath.TellFailure();
    }

    private void Run(MemoryStream package, long start)
    {
        var (failure, leftBehind) = HandlerWatch.Run("postcopy package load", _scope.Timeout, watch =>
        {
            var input = IncomingStream.OfPackage(package, start, watch);
            new StreamLoader(session, input, new HandlerCaller(watch, () => input.Offset, () => input.Failure, _scope), logger).Run();
        }, _scope.CancellationToken);
        _leftBehind = leftBehind;
        if (failure is not null)
        {
            HandlerWatch.Throw(failure);
        }
    }
}
