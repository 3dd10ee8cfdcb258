using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The package of device state with which postcopy starts the target. It is read whole and loaded on a thread of its own: from
/// POSTCOPY_LISTEN on the main stream is read at the same time, because a device in the package may need pages that come behind it.
/// </summary>
/// <param name="scope">Its bounds.</param>
/// <param name="limit">The most bytes that it may have.</param>
/// <param name="log">Gets the phases.</param>
/// <param name="failing">Called if its failure is the migration's first, while the other threads still wait.</param>
internal sealed class PostcopyPackage(TransferScope scope, long limit, ILogger log, Action failing) : IDisposable
{
    private readonly ManualResetEvent _listening = new(false);
    private SideThread? _thread;
    private volatile bool _leftBehind;
    private volatile Exception? _lost;

    /// <summary>True while a package is being loaded.</summary>
    internal bool IsLoading => _thread is { HasEnded: false };

    /// <summary>Pages may come from now on.</summary>
    internal void Listen() => _listening.Set();

    /// <summary>The connection is lost while the package is being loaded.</summary>
    internal void MarkLost(Exception failure) => _lost = failure;

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

        if (length > limit)
        {
            throw input.Fail(StreamException.At(StreamError.InvalidPackage, offset,
                $"A package of {length:N0} bytes is announced, and {limit:N0} are taken at most"));
        }

        long start = input.Offset;
        var package = input.ReadPackage(length);
        _thread = SideThread.Start("postcopy package", scope, () => Run(main, package, start), failing);
        WaitHandle.WaitAny([_listening, _thread.Ended, scope.CancellationToken.WaitHandle]);
        scope.CancellationToken.ThrowIfCancellationRequested();
    }

    /// <summary>Waits until the package is loaded; each of its handlers has a deadline.</summary>
    internal void Join()
    {
        if (_thread is { } thread)
        {
            WaitHandle.WaitAny([thread.Ended, scope.CancellationToken.WaitHandle]);
            // A failure of the thread has cancelled it.
            scope.CancellationToken.ThrowIfCancellationRequested();
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

    private void Run(StreamLoader main, MemoryStream package, long start)
    {
        var (failure, leftBehind) = HandlerWatch.Run("postcopy package load", scope.Timeout,
            watch => main.Over(MigrationRun.Begin(scope, watch, log), IncomingStream.OfPackage(package, start, watch)).Run(), scope.CancellationToken);
        _leftBehind = leftBehind;
        if (failure is not null)
        {
            HandlerWatch.Throw(failure);
        }
    }
}
