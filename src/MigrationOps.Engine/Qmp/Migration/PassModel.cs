namespace MigrationOps.Engine.Qmp;

/// <summary>
/// QEMU's passes over memory, in numbers: it sends until what is left is below the bandwidth times the downtime limit, asks the dirty log
/// what was written meanwhile, and switches over if the sum is still below. It looks after each slice of sending only, and what was left does
/// not vanish when the log is read: so the last memory is seldom much less than the limit allows.
/// </summary>
/// <remarks>
/// From the behaviour of QEMU 7.2 to 11.1, measured. Slices: with max-bandwidth QEMU sends a tenth of it ten times a second; where the
/// link is what bounds, it looks every 50 ms.
/// </remarks>
internal sealed record PassModel
{
    private const int MostSyncs = 4000;
    private const double Same = 1e-4;
    private const int SameForLong = 8;

    /// <summary>How fast pages of zeros are looked through, in bytes per second (measured: 3 to 6 GiB/s).</summary>
    private const double ZeroRate = 4.0 * (1 << 30);

    /// <summary>The memory of the guest.</summary>
    internal required double RamBytes { get; init; }

    /// <summary>That which is not zero.</summary>
    internal required double UsedBytes { get; init; }

    /// <summary>
    /// Which part of the memory at the end of the first pass is not zero. Zeros are gone in no time, so that with 0 nothing of the first pass
    /// is left at the switchover, and with 1 as much as the threshold allows.
    /// </summary>
    internal required double UsedAtEnd { get; init; }

    /// <summary>What the guest writes.</summary>
    internal required DirtyRateCurve Curve { get; init; }

    /// <summary>Bytes per second while the guest runs.</summary>
    internal required double Bandwidth { get; init; }

    /// <summary>What QEMU takes for what may be left: its bandwidth times the downtime limit.</summary>
    internal required double Threshold { get; init; }

    /// <summary>Seconds of sending between two looks.</summary>
    internal required double Slice { get; init; }

    /// <summary>The first pass without the writes meanwhile, in seconds.</summary>
    internal double FirstPass => (UsedBytes / Bandwidth) + ((RamBytes - UsedBytes) / ZeroRate);

    /// <summary>Goes through the passes.</summary>
    /// <param name="phase">Where within a slice the first pass ends, from 0 to 1: it is not known before.</param>
    internal PassCourse Run(double phase)
    {
        double slice = Bandwidth * Slice;

        double rest = Math.Max(0, Math.Min(Threshold, UsedBytes) - (phase * slice)) * UsedAtEnd;
        double time = Math.Max(FirstPass - (rest / Bandwidth), Slice);
        double elapsed = time;
        double sent = UsedBytes - rest;
        double hot = 0, cold = rest, before = double.MaxValue;
        int same = 0;
        for (int syncs = 1; syncs <= MostSyncs; syncs++)
        {
            hot += (Hottest - hot) * (1 - Math.Exp(-time / Curve.TimeConstant));
            cold = Math.Min(cold + (Curve.Steady * time * (1 - (cold / RamBytes))), RamBytes - Hottest);
            double dirty = hot + cold;
            if (dirty < Threshold)
            {
                // The log is read once more when the guest has stopped: with the one at the start that makes two beside these.
                return new PassCourse(true, syncs + 2, elapsed, dirty, sent + dirty);
            }

            same = Math.Abs(dirty - before) < Same * dirty ? same + 1 : 0;
            if (same == SameForLong)
            {
                break;
            }

            before = dirty;
            double go = Math.Min((Math.Floor((dirty - Threshold) / slice) + 1) * slice, dirty);
            hot *= (dirty - go) / dirty;
            cold *= (dirty - go) / dirty;
            time = go / Bandwidth;
            elapsed += time;
            sent += go;
        }

        return new PassCourse(false, 0, elapsed, before, sent);
    }

    private double Hottest => Math.Min(Curve.WorkingSet, RamBytes);
}

/// <summary>How the passes went.</summary>
/// <param name="Converges">True if the switchover was reached.</param>
/// <param name="Passes">How often the dirty log was read, to the end.</param>
/// <param name="Seconds">Until the switchover.</param>
/// <param name="Remaining">Bytes of memory that are left for the downtime.</param>
/// <param name="Sent">Bytes of memory that were sent, with those.</param>
internal readonly record struct PassCourse(bool Converges, int Passes, double Seconds, double Remaining, double Sent);
