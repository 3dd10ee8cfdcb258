namespace MigrationOps.Engine.Vfio;

/// <summary>The states of a VFIO device in the kernel's migration uAPI, by number.</summary>
internal enum VfioState : uint
{
    /// <summary>Its state is lost; only a reset leads out.</summary>
    Error = 0,

    /// <summary>Stopped.</summary>
    Stop = 1,

    /// <summary>Running.</summary>
    Running = 2,

    /// <summary>Stopped; its state is read.</summary>
    StopCopy = 3,

    /// <summary>Stopped; a state is written.</summary>
    Resuming = 4,

    /// <summary>Running, no P2P DMA.</summary>
    RunningP2P = 5,

    /// <summary>Pre-copy: running, and its state is read.</summary>
    PreCopy = 6,

    /// <summary>Pre-copy, no P2P DMA.</summary>
    PreCopyP2P = 7,
}

/// <summary>What a device can do in a migration.</summary>
[Flags]
internal enum VfioMigrationFlags : ulong
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>It gives and takes its state while it is stopped.</summary>
    StopCopy = 1,

    /// <summary>It has the states in which no device starts anything with another.</summary>
    P2P = 2,

    /// <summary>It gives state while it runs.</summary>
    PreCopy = 4,
}

/// <summary>The kernel's migration states and the arcs between them (linux/vfio.h, uAPI version 2).</summary>
/// <remarks>
/// <code>
/// ERROR by reset to RUNNING
/// RESUMING to and from STOP to and from STOP_COPY
///              STOP to and from RUNNING_P2P to and from RUNNING      (without P2P: STOP to and from RUNNING)
///     RUNNING to and from PRE_COPY to and from PRE_COPY_P2P to STOP_COPY
/// RUNNING_P2P to and from PRE_COPY_P2P                       (without P2P: PRE_COPY to STOP_COPY)
/// </code>
/// </remarks>
internal static class VfioStateMachine
{
    private static readonly (VfioState From, VfioState To, VfioMigrationFlags Needs, VfioMigrationFlags Lacks)[] Arcs =
    [
        (VfioState.Stop, VfioState.StopCopy, VfioMigrationFlags.StopCopy, 0),
        (VfioState.StopCopy, VfioState.Stop, VfioMigrationFlags.StopCopy, 0),
        (VfioState.Stop, VfioState.Resuming, VfioMigrationFlags.StopCopy, 0),
        (VfioState.Resuming, VfioState.Stop, VfioMigrationFlags.StopCopy, 0),
        (VfioState.Stop, VfioState.Running, VfioMigrationFlags.StopCopy, VfioMigrationFlags.P2P),
        (VfioState.Running, VfioState.Stop, VfioMigrationFlags.StopCopy, VfioMigrationFlags.P2P),
        (VfioState.Stop, VfioState.RunningP2P, VfioMigrationFlags.P2P, 0),
        (VfioState.RunningP2P, VfioState.Stop, VfioMigrationFlags.P2P, 0),
        (VfioState.Running, VfioState.RunningP2P, VfioMigrationFlags.P2P, 0),
        (VfioState.RunningP2P, VfioState.Running, VfioMigrationFlags.P2P, 0),
        (VfioState.Running, VfioState.PreCopy, VfioMigrationFlags.PreCopy, 0),
        (VfioState.PreCopy, VfioState.Running, VfioMigrationFlags.PreCopy, 0),
        (VfioState.PreCopy, VfioState.StopCopy, VfioMigrationFlags.PreCopy, VfioMigrationFlags.P2P),
        (VfioState.PreCopy, VfioState.PreCopyP2P, VfioMigrationFlags.PreCopy | VfioMigrationFlags.P2P, 0),
        (VfioState.PreCopyP2P, VfioState.PreCopy, VfioMigrationFlags.PreCopy | VfioMigrationFlags.P2P, 0),
        (VfioState.RunningP2P, VfioState.PreCopyP2P, VfioMigrationFlags.PreCopy | VfioMigrationFlags.P2P, 0),
        (VfioState.PreCopyP2P, VfioState.RunningP2P, VfioMigrationFlags.PreCopy | VfioMigrationFlags.P2P, 0),
        (VfioState.PreCopyP2P, VfioState.StopCopy, VfioMigrationFlags.PreCopy | VfioMigrationFlags.P2P, 0),
    ];

    /// <summary>True if a device with these features has the state.</summary>
    public static bool Has(VfioState state, VfioMigrationFlags flags) => state switch
    {
        VfioState.RunningP2P => flags.HasFlag(VfioMigrationFlags.P2P),
        VfioState.PreCopy => flags.HasFlag(VfioMigrationFlags.PreCopy),
        VfioState.PreCopyP2P => flags.HasFlag(VfioMigrationFlags.PreCopy | VfioMigrationFlags.P2P),
        VfioState.Error => false,
        _ => Enum.IsDefined(state),
    };

    /// <summary>True if the driver itself knows this step.</summary>
    public static bool IsArc(VfioState from, VfioState to, VfioMigrationFlags flags)
        => Arcs.Any(a => a.From == from && a.To == to && flags.HasFlag(a.Needs) && (a.Lacks == 0 || !flags.HasFlag(a.Lacks)));

    /// <summary>
    /// The steps from one state to another, the shortest way; of two that are as short, the one with the lower numbers. A
    /// way never leads through a state that moves data unless it starts or ends there: data in it would be lost.
    /// </summary>
    /// <returns>The states to enter, in order; empty if the device is there; null if no way leads there.</returns>
    public static IReadOnlyList<VfioState>? ShortestPath(VfioState from, VfioState to, VfioMigrationFlags flags)
    {
        var before = new Dictionary<VfioState, VfioState> { [from] = from };
        var queue = new Queue<VfioState>([from]);
        while (queue.TryDequeue(out var state))
        {
            if (state == to)
            {
                var path = new List<VfioState>();
                for (; state != from; state = before[state])
                {
                    path.Insert(0, state);
                }

                return path;
            }

            foreach (var next in Enum.GetValues<VfioState>())
            {
                bool passesData = state != from && MovesData(state) && !ContinuesData(state, next);
                if (!passesData && IsArc(state, next, flags) && before.TryAdd(next, state))
                {
                    queue.Enqueue(next);
                }
            }
        }

        return null;
    }

    /// <summary>True if the state has a data descriptor.</summary>
    public static bool MovesData(VfioState state)
        => state is VfioState.StopCopy or VfioState.Resuming or VfioState.PreCopy or VfioState.PreCopyP2P;

    // The pre-copy states and STOP_COPY share one descriptor: the stream continues.
    private static bool ContinuesData(VfioState from, VfioState to)
        => from is VfioState.PreCopy or VfioState.PreCopyP2P && to is VfioState.PreCopy or VfioState.PreCopyP2P or VfioState.StopCopy;
}
