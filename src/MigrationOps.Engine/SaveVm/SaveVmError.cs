namespace MigrationOps.Engine.SaveVm;

/// <summary>Why registering a handler or driving a migration failed.</summary>
public enum SaveVmError
{
    /// <summary>An idstr or machine type that is empty, too long or not valid UTF-8.</summary>
    InvalidName,

    /// <summary>An (idstr, instance_id) that is already taken, by itself or as an alias.</summary>
    DuplicateEntry,

    /// <summary>A set of handlers that cannot work together.</summary>
    InvalidHandlers,

    /// <summary>An option of the migration is out of range, or excludes another one.</summary>
    InvalidOption,

    /// <summary>Nothing is registered under that name.</summary>
    NotRegistered,

    /// <summary>The stream is of another machine, page size or configuration than expected.</summary>
    ConfigurationMismatch,

    /// <summary>A section of a device that is not registered here.</summary>
    UnknownSection,

    /// <summary>A section of a newer version than the registered one.</summary>
    VersionTooNew,

    /// <summary>A feature of QEMU's streams that this driver does not have.</summary>
    NotSupported,

    /// <summary>A handler failed with an exception.</summary>
    HandlerFailed,

    /// <summary>A handler neither moved a byte nor returned within the deadline.</summary>
    HandlerTimeout,

    /// <summary>A handler used its stream after its call had ended.</summary>
    StreamAfterCall,

    /// <summary>Handlers report pending data and send nothing.</summary>
    NoProgress,

    /// <summary>The pending bytes did not fall to what fits into the downtime within the allowed rounds or time.</summary>
    DidNotConverge,

    /// <summary>The target did not allow the switchover within the deadline.</summary>
    SwitchoverAckTimeout,

    /// <summary>The source sends without a return path, which is required.</summary>
    ReturnPathMissing,

    /// <summary>The target says that it failed to load.</summary>
    TargetFailed,

    /// <summary>The connection broke.</summary>
    ConnectionLost,

    /// <summary>The peer neither received nor sent anything within the deadline.</summary>
    PeerSilent,

    /// <summary>A migration broke after its switch to postcopy. Both sides keep their state until it is resumed or given up.</summary>
    PostcopyPaused,

    /// <summary>There is no paused migration to resume or to give up, or a paused migration must be ended before a new one.</summary>
    WrongPhase,
}

/// <summary>A failure of a migration stream's handlers or drivers. It names the section, its id and the byte.</summary>
public sealed class SaveVmException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">Why it failed.</param>
    /// <param name="message">What happened, with section and byte offset.</param>
    /// <param name="innerException">The cause, if any.</param>
    /// <param name="action">What to do next, where the general advice for the reason is not enough.</param>
    public SaveVmException(SaveVmError reason, string message, Exception? innerException = null, string? action = null)
        : base("SaveVm" + reason, KindOf(reason), message, action ?? ActionOf(reason), innerException)
        => Reason = reason;

    /// <summary>Why it failed.</summary>
    public SaveVmError Reason { get; }

    /// <summary>A failure at a byte of the stream.</summary>
    internal static SaveVmException At(SaveVmError reason, long offset, string what, string? section = null)
        => new(reason, $"{what}, at byte {offset:N0} of the stream.") { ByteOffset = offset, Section = section };

    private static FailureKind KindOf(SaveVmError reason) => reason switch
    {
        SaveVmError.InvalidName or SaveVmError.InvalidHandlers or SaveVmError.InvalidOption => FailureKind.InvalidArgument,
        SaveVmError.DuplicateEntry or SaveVmError.DidNotConverge or SaveVmError.WrongPhase => FailureKind.InvalidState,
        SaveVmError.NotRegistered or SaveVmError.UnknownSection => FailureKind.NotFound,
        SaveVmError.VersionTooNew or SaveVmError.NotSupported or SaveVmError.ReturnPathMissing => FailureKind.NotSupported,
        SaveVmError.HandlerTimeout or SaveVmError.SwitchoverAckTimeout or SaveVmError.PeerSilent or SaveVmError.NoProgress
            => FailureKind.Timeout,
        SaveVmError.TargetFailed or SaveVmError.HandlerFailed => FailureKind.Refused,
        SaveVmError.ConnectionLost or SaveVmError.PostcopyPaused => FailureKind.Connection,
        SaveVmError.StreamAfterCall => FailureKind.Protocol,
        _ => FailureKind.CorruptData,
    };

    private static string ActionOf(SaveVmError reason) => reason switch
    {
        SaveVmError.InvalidName => "Give a name of 1 to 255 bytes.",
        SaveVmError.DuplicateEntry => "Unregister the other one first, or register with instance id -1 to get the next free number.",
        SaveVmError.InvalidHandlers => "Offer the handlers that the message names.",
        SaveVmError.InvalidOption => "Change the option as the message says, or leave it out.",
        SaveVmError.NotRegistered => "List what is registered.",
        SaveVmError.ConfigurationMismatch => "Start both sides with the same machine type and page size.",
        SaveVmError.UnknownSection => "Register a handler for that device on the target, under the name and number that the message gives.",
        SaveVmError.VersionTooNew => "Update the target's handler, or have the source write the older version.",
        SaveVmError.NotSupported => "Turn that feature off on the source.",
        SaveVmError.HandlerFailed => "Look at the cause that the handler gave. The source's device resumes.",
        SaveVmError.HandlerTimeout => "Look at the handler: it hangs. Its call was left behind; a longer timeout helps only a slow one.",
        SaveVmError.StreamAfterCall => "Use the stream only inside the handler's call that it was given to.",
        SaveVmError.NoProgress => "Have the handler return true when it has nothing to send, or send what it reports as pending.",
        SaveVmError.DidNotConverge => "Allow more bandwidth, a longer downtime, more rounds or more time, or slow down what changes the state.",
        SaveVmError.SwitchoverAckTimeout => "Look at the target: a device there has not approved the switchover.",
        SaveVmError.ReturnPathMissing => "Turn the return path on at the source; in QEMU it is the capability return-path.",
        SaveVmError.TargetFailed => "Look at the target for the reason. The source's device resumes.",
        SaveVmError.ConnectionLost => "Look at the other side: it ended the connection. A source that says completed has its guest stopped: resume it there with cont. Then migrate again, with return-path on.",
        SaveVmError.PeerSilent => "Look at the other side: it is alive but does not move. A longer timeout helps only a slow peer.",
        SaveVmError.PostcopyPaused =>
            "Bring the connection back, then resume on the target first, and then on the source. Do not start the device on the source.",
        SaveVmError.WrongPhase => "Resume a paused migration, or give it up.",
        _ => "The peer breaks the protocol there. Check its version.",
    };
}
