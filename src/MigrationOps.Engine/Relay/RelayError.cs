namespace MigrationOps.Engine.Relay;

/// <summary>Why a relay ended a migration, or saw it end before its time.</summary>
public enum RelayError
{
    /// <summary>The source closed the connection before its stream had ended.</summary>
    SourceEnded,

    /// <summary>The target closed the connection before it had said that it has everything.</summary>
    TargetEnded,

    /// <summary>The target said that it failed.</summary>
    TargetFailed,

    /// <summary>The whole stream has been passed on, and the connection ended without the target's word on it.</summary>
    NotAcknowledged,

    /// <summary>The relay broke the migration, because it was told to.</summary>
    BrokenToOrder,

    /// <summary>The relay was stopped while it carried a migration.</summary>
    Stopped,

    /// <summary>A packet of device state is for a device that the main stream has not announced.</summary>
    UnknownDevice,

    /// <summary>A fault that names no element, or whose values do not go together.</summary>
    InvalidFault,
}

/// <summary>The end of a migration at a relay.</summary>
public sealed class RelayException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">Why.</param>
    /// <param name="message">What happened, with channel and byte.</param>
    /// <param name="innerException">The cause, if any.</param>
    /// <param name="action">What to do next, where the general advice for the reason is not enough.</param>
    public RelayException(RelayError reason, string message, Exception? innerException = null, string? action = null)
        : base("Relay" + reason, KindOf(reason), message, action ?? ActionOf(reason), innerException)
        => Reason = reason;

    /// <summary>Why.</summary>
    public RelayError Reason { get; }

    private static FailureKind KindOf(RelayError reason) => reason switch
    {
        RelayError.TargetFailed => FailureKind.Refused,
        RelayError.UnknownDevice => FailureKind.Protocol,
        RelayError.InvalidFault => FailureKind.InvalidArgument,
        _ => FailureKind.Connection,
    };

    private static string ActionOf(RelayError reason) => reason switch
    {
        RelayError.SourceEnded => "Look at the source (query-migrate, query-status): it failed or was cancelled. Start nothing at the target before you know that the guest is not running there.",
        RelayError.TargetEnded or RelayError.TargetFailed => "Look at the target's log for what it did not load. A source with return-path on lets its guest run on.",
        RelayError.NotAcknowledged =>
            "Ask both monitors (query-status) before you start or stop anything: the target may be running, and so may the source.",
        RelayError.UnknownDevice =>
            "The source sends what it has not announced. Look at its guest (query-status): it should run on there. Migrate again, and keep an archive of it.",
        RelayError.InvalidFault => "Give Kind, and the element as After, Before or In. The help lists the names.",
        _ => "Ask both monitors (query-status) which side runs before the next step.",
    };
}
