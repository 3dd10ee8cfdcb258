using System.Diagnostics;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The downtime as the target sees it: the work between the switchover and the end mark by kind, and the waiting for bytes
/// apart from it.
/// </summary>
internal sealed class DowntimeParts
{
    private readonly Lock _gate = new();
    private TimeSpan _switchover;
    private TimeSpan _finalIteration;
    private TimeSpan _state;
    private TimeSpan _waited;

    /// <summary>Telling the source.</summary>
    internal TimeSpan Complete { get; set; }

    /// <summary>Measures the loading of a section, if the device has stopped by then.</summary>
    internal IDisposable? Measure(SectionKind type, IncomingStream input) => type switch
    {
        SectionKind.End => new Part(_gate, input, (work, wait) => (_finalIteration, _waited) = (_finalIteration + work, _waited + wait)),
        SectionKind.Full => new Part(_gate, input, (work, wait) => (_state, _waited) = (_state + work, _waited + wait)),
        _ => null,
    };

    /// <summary>Measures the handlers of SWITCHOVER_START.</summary>
    internal IDisposable MeasureSwitchover(IncomingStream input) => new Part(_gate, input, (work, _) => _switchover += work);

    internal MigrationDowntime ToRecord() => new()
    {
        Switchover = _switchover,
        FinalIteration = _finalIteration,
        State = _state,
        Send = _waited,
        Complete = Complete,
    };

    private sealed class Part(Lock gate, IncomingStream input, Action<TimeSpan, TimeSpan> add) : IDisposable
    {
        private readonly long _start = Stopwatch.GetTimestamp();
        private readonly TimeSpan _waitedBefore = input.Waited;

        public void Dispose()
        {
            var waited = input.Waited - _waitedBefore;
            lock (gate)
            {
                add(Stopwatch.GetElapsedTime(_start) - waited, waited);
            }
        }
    }
}
