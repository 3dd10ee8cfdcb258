using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Keeps the rounds of RAM apart, as QEMU's multifd_recv_sync_main: a channel that has come to a SYNC waits until all others have, and the main
/// stream has come to the same place.
/// </summary>
internal sealed class RoundBarrier : IDisposable
{
    private readonly object _gate = new();
    private readonly int _channels;
    private readonly Func<long> _moved;
    private readonly TransferScope _scope;
    private readonly CancellationTokenRegistration _registration;
    private int _waiting;
    private long _round;

    /// <param name="channels">How many channels there are.</param>
    /// <param name="moved">A number that changes with every byte of them.</param>
    /// <param name="scope">How long nothing may move, and cancellation.</param>
    internal RoundBarrier(int channels, Func<long> moved, TransferScope scope)
    {
        (_channels, _moved, _scope) = (channels, moved, scope);
        _registration = scope.CancellationToken.Register(() =>
        {
            lock (_gate)
            {
                Monitor.PulseAll(_gate);
            }
        });
    }

    /// <summary>The main stream: waits for all channels, and releases them.</summary>
    internal void AwaitChannels()
    {
        lock (_gate)
        {
            while (_waiting < _channels)
            {
                long before = _moved();
                bool pulsed = Monitor.Wait(_gate, _scope.Timeout);
                _scope.CancellationToken.ThrowIfCancellationRequested();
                if (!pulsed && _moved() == before)
                {
                    throw new SaveVmException(SaveVmError.PeerSilent,
                        $"The main stream has ended a round of RAM; {_channels - _waiting} of {_channels} multifd channels have not, and sent nothing for {_scope.Timeout.TotalSeconds:0.###} s.");
                }
            }

            _waiting = 0;
            _round++;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>A channel: waits for the others and the main stream, which has the deadline.</summary>
    internal void AwaitRound()
    {
        lock (_gate)
        {
            long round = _round;
            _waiting++;
            Monitor.PulseAll(_gate);
            while (_round == round)
            {
                _scope.CancellationToken.ThrowIfCancellationRequested();
                Monitor.Wait(_gate);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _registration.Dispose();
}
