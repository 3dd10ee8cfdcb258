namespace MigrationOps.Engine.Qmp;

/// <summary>
/// How long to wait for a monitor. A switchover and the load of devices hold QEMU's big lock, and the monitor is silent for as
/// long: then the longer time applies. QEMU is known to be in such a state by its last events and answers, or because it still
/// answers out of band.
/// </summary>
/// <param name="Greeting">For the connection, the greeting and the negotiation.</param>
/// <param name="Command">For the answer of one command.</param>
/// <param name="Busy">For the answer while QEMU holds its big lock; never shorter than <paramref name="Command"/>.</param>
internal sealed record QmpTimeouts(TimeSpan Greeting, TimeSpan Command, TimeSpan Busy)
{
    internal static QmpTimeouts Default { get; } = Of(TimeSpan.FromSeconds(30));

    /// <summary>The times that follow from one: that of a command.</summary>
    internal static QmpTimeouts Of(TimeSpan command)
    {
        if (command == Timeout.InfiniteTimeSpan)
        {
            return new QmpTimeouts(TimeSpan.FromSeconds(5), command, command);
        }

        var minute = TimeSpan.FromSeconds(60);
        return new QmpTimeouts(command < TimeSpan.FromSeconds(5) ? command : TimeSpan.FromSeconds(5), command, command > minute ? command : minute);
    }
}
