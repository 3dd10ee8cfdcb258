namespace MigrationOps.Engine.Relay;

/// <summary>How far a migration has come, as the relay between both sides sees it.</summary>
internal enum RelayPhase
{
    /// <summary>No source has connected.</summary>
    Listening,

    /// <summary>A source has connected, and sets up.</summary>
    Setup,

    /// <summary>Memory is copied while the guest runs at the source.</summary>
    Copying,

    /// <summary>The guest has stopped at the source, and the rest is being sent.</summary>
    Switching,

    /// <summary>The guest was started at the target, and its memory follows.</summary>
    Postcopy,

    /// <summary>The connection broke in postcopy: the source may connect again.</summary>
    PostcopyPaused,

    /// <summary>All bytes of the stream have been given to the target's system.</summary>
    Delivered,

    /// <summary>The target's word that it has everything has been given to the source's system.</summary>
    Acknowledged,

    /// <summary>Inside TLS, which is passed through: nothing more is known.</summary>
    Encrypted,

    /// <summary>The migration ended before its time.</summary>
    Failed,

    /// <summary>The relay was stopped, or its connections ended, without a migration that could be judged.</summary>
    Ended,
}

/// <summary>What one connection has carried.</summary>
/// <param name="Name">main, channel 0, preempt, or connection with its number.</param>
/// <param name="Bytes">Passed on to the target.</param>
/// <param name="ReturnBytes">Passed on to the source.</param>
/// <param name="Elements">Sections and commands, or packets.</param>
internal sealed record RelayChannelStatus(string Name, long Bytes, long ReturnBytes, long Elements);

/// <summary>What a relay knows at one moment.</summary>
internal sealed record RelayStatus
{
    /// <summary>How far the migration has come.</summary>
    public required RelayPhase Phase { get; init; }

    /// <summary>True while the relay listens or carries a migration.</summary>
    public required bool IsRunning { get; init; }

    /// <summary>True once every byte of the main stream, to its last, has been given to the target's system.</summary>
    public required bool Delivered { get; init; }

    /// <summary>True once the target has said that it has everything, and the source's system has been given that.</summary>
    public required bool Acknowledged { get; init; }

    /// <summary>What the target said in SHUT, whether or not it was passed on: 0 for success; null if it said nothing.</summary>
    public required uint? TargetSaid { get; init; }

    /// <summary>True if the source asked for a return path: only then the target says anything.</summary>
    public required bool HasReturnPath { get; init; }

    /// <summary>SWITCHOVER_ACK messages that were passed on.</summary>
    public required int SwitchoverAcks { get; init; }

    /// <summary>RESUME_ACK messages that were passed on: how often postcopy continued after a pause.</summary>
    public required int ResumeAcks { get; init; }

    /// <summary>Machine type of the source, once it is known.</summary>
    public required string? Machine { get; init; }

    /// <summary>The connections, the main one first.</summary>
    public required IReadOnlyList<RelayChannelStatus> Channels { get; init; }

    /// <summary>The faults that have struck, in order.</summary>
    public required IReadOnlyList<RelayFault> Struck { get; init; }

    /// <summary>What was accepted though it should not be.</summary>
    public required IReadOnlyList<string> Warnings { get; init; }

    /// <summary>Why the migration ended before its time; null if it did not.</summary>
    public required Exception? Failure { get; init; }

    /// <summary>Bytes passed on to the target.</summary>
    public long Bytes => Channels.Sum(c => c.Bytes);
}
