namespace MigrationOps.Engine.Relay;

/// <summary>The faults that are still to strike. Any thread may use it.</summary>
internal sealed class RelayFaults(IEnumerable<RelayFault> faults)
{
    private readonly Lock _lock = new();
    private readonly List<Armed> _armed = [.. faults.Select(fault => new Armed(fault))];

    /// <summary>Those that are due at an element that has come.</summary>
    /// <param name="point">What it is.</param>
    /// <param name="channel">The number of its channel; null for the main one.</param>
    /// <param name="section">Its section's idstr, if it is in one.</param>
    internal IReadOnlyList<RelayFault> At(RelayPoint point, int? channel = null, string? section = null)
    {
        if (_armed.Count == 0)
        {
            return [];
        }

        lock (_lock)
        {
            var due = _armed.FindAll(armed => armed.Meets(point, channel, section));
            _armed.RemoveAll(due.Contains);
            return [.. due.Select(armed => armed.Fault)];
        }
    }

    private sealed class Armed(RelayFault fault)
    {
        private int _met;

        internal RelayFault Fault => fault;

        internal bool Meets(RelayPoint point, int? channel, string? section)
            => fault.Point == point
                && (point is RelayPoint.Start or RelayPoint.Byte ? fault.Channel == channel : fault.Channel is null || fault.Channel == channel)
                && (fault.Section is null || fault.Section == section)
                && ++_met == fault.Number;
    }
}
