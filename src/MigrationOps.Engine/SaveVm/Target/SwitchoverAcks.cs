using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Counts on the source the acknowledgements that are still to come before the device may be stopped. The driver's thread asks, the
/// return path's thread answers.
/// </summary>
/// <param name="perDevice">Counts what devices ask for; otherwise one is waited for, whoever asks.</param>
internal sealed class SwitchoverAcks(bool perDevice) : IDisposable
{
    private readonly Lock _gate = new();
    private readonly ManualResetEvent _all = new(perDevice);
    private long _missing = perDevice ? 0 : 1;

    /// <summary>Set while none is missing.</summary>
    internal WaitHandle All => _all;

    /// <summary>True while none is missing.</summary>
    internal bool Complete => _all.WaitOne(0);

    /// <summary>How many have come.</summary>
    internal long Received { get; private set; }

    /// <summary>Devices ask for some more.</summary>
    internal void Request(int count)
    {
        lock (_gate)
        {
            if (perDevice && count > 0)
            {
                _missing += count;
                _all.Reset();
            }
        }
    }

    /// <summary>One has come.</summary>
    /// <param name="offset">Where it began on the return path.</param>
    internal void Receive(long offset)
    {
        lock (_gate)
        {
            if (perDevice && _missing == 0)
            {
                throw ReturnPathCodec.Invalid(offset, "The target allows the switchover once more than devices have asked for it");
            }

            Received++;
            _missing = Math.Max(0, _missing - 1);
            if (_missing == 0)
            {
                _all.Set();
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _all.Dispose();
}
