using System.Diagnostics;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Wire;

/// <summary>
/// Bounds every wait of one operation: how long a peer may leave us without progress, and cancellation. Any number of
/// threads may wait in one scope at once. Dispose it after they have ended.
/// </summary>
public sealed class IoScope : IDisposable
{
    /// <summary>The deadline of one wait unless the caller says otherwise.</summary>
    public static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(30);

    private readonly SafeFileHandle _cancelEvent = EventFd.Create();
    private readonly CancellationTokenRegistration _registration;

    /// <summary>Creates the bounds.</summary>
    /// <param name="timeout">The longest time without progress; <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> for none.</param>
    /// <param name="cancellationToken">Ends every wait at once.</param>
    public IoScope(TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        if (timeout <= TimeSpan.Zero && timeout != System.Threading.Timeout.InfiniteTimeSpan)
        {
            _cancelEvent.Dispose();
            throw new ArgumentOutOfRangeException(nameof(timeout), timeout, "The timeout is a positive time.");
        }

        Timeout = timeout;
        CancellationToken = cancellationToken;
        _registration = cancellationToken.UnsafeRegister(
            static state => EventFd.Signal((SafeFileHandle)state!), _cancelEvent);
    }

    /// <summary>The longest time without progress.</summary>
    public TimeSpan Timeout { get; }

    /// <summary>Ends every wait at once.</summary>
    public CancellationToken CancellationToken { get; }

    /// <summary>The moment at which a wait that starts now fails.</summary>
    public Deadline StartDeadline() => new(Timeout);

    /// <summary>Waits until the descriptor has one of the events, an error or a hang-up.</summary>
    /// <param name="handle">The descriptor; it stays the caller's.</param>
    /// <param name="events">What to wait for.</param>
    /// <param name="deadline">When to give up.</param>
    /// <param name="waitingFor">What the error names: "the reply to …".</param>
    /// <param name="target">What the error has as its target: the name of the stream that stands still.</param>
    /// <exception cref="WireException"><see cref="WireError.Timeout"/>.</exception>
    /// <exception cref="OperationCanceledException">The scope was cancelled.</exception>
    public PollEvents Wait(SafeHandle handle, PollEvents events, Deadline deadline, string waitingFor, string? target = null)
        => TryWait(handle, events, deadline) is not PollEvents.None and var returned ? returned : throw Expired(waitingFor, target);

    /// <summary>Waits like <see cref="Wait"/>, and gives <see cref="PollEvents.None"/> when the deadline has passed.</summary>
    public PollEvents TryWait(SafeHandle handle, PollEvents events, Deadline deadline)
    {
        ArgumentNullException.ThrowIfNull(handle);
        using var fd = new BorrowedFd(handle);
        Span<Poll.PollFd> fds =
        [
            new Poll.PollFd { Fd = fd.Number, Events = events },
            new Poll.PollFd { Fd = (int)_cancelEvent.DangerousGetHandle(), Events = PollEvents.Readable },
        ];
        while (true)
        {
            int ready = Poll.Wait(fds, deadline.RemainingMilliseconds);
            CancellationToken.ThrowIfCancellationRequested();
            if (fds[0].Returned != PollEvents.None || (ready == 0 && deadline.HasPassed))
            {
                return fds[0].Returned;
            }
        }
    }

    /// <summary>The failure of a wait that has outlived its deadline.</summary>
    /// <param name="waitingFor">What was waited for.</param>
    /// <param name="target">What stands still.</param>
    public WireException Expired(string waitingFor, string? target = null)
        => new(WireError.Timeout, $"Nothing moved within {Timeout.TotalSeconds:0.###} s while waiting for {waitingFor}.")
        {
            Target = target,
        };

    /// <inheritdoc/>
    public void Dispose()
    {
        _registration.Dispose();
        _cancelEvent.Dispose();
    }
}

/// <summary>A moment on the monotonic clock after which a wait has failed.</summary>
public readonly struct Deadline
{
    private readonly long _ticks;

    /// <summary>A deadline from now.</summary>
    /// <param name="timeout">How far away; <see cref="Timeout.InfiniteTimeSpan"/> for never.</param>
    public Deadline(TimeSpan timeout)
        => _ticks = timeout == Timeout.InfiniteTimeSpan || timeout.TotalDays > 3650
            ? long.MaxValue
            : Stopwatch.GetTimestamp() + (long)(timeout.TotalSeconds * Stopwatch.Frequency);

    /// <summary>True once it is over.</summary>
    public bool HasPassed => _ticks != long.MaxValue && Stopwatch.GetTimestamp() >= _ticks;

    /// <summary>What is left, for poll(2): -1 without a deadline, rounded up so that a wait never spins.</summary>
    public int RemainingMilliseconds
    {
        get
        {
            if (_ticks == long.MaxValue)
            {
                return -1;
            }

            double left = (_ticks - Stopwatch.GetTimestamp()) * 1000.0 / Stopwatch.Frequency;
            return (int)Math.Clamp(Math.Ceiling(left), 0, int.MaxValue);
        }
    }
}
