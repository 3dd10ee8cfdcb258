namespace MigrationOps.Engine.Multifd;

/// <summary>Why a multifd migration, its channels or its archive failed.</summary>
public enum MultifdError
{
    /// <summary>A channel has another VM UUID than the channels before it.</summary>
    UuidMismatch,

    /// <summary>A channel id that is not below the number of channels.</summary>
    ChannelIdOutOfRange,

    /// <summary>Two channels with one id.</summary>
    DuplicateChannel,

    /// <summary>A channel that never connected.</summary>
    MissingChannel,

    /// <summary>A second main channel.</summary>
    DuplicateMainChannel,

    /// <summary>No main channel connected.</summary>
    MissingMainChannel,

    /// <summary>The channel ended before the SYNC packets that the main stream announces.</summary>
    MissingSync,

    /// <summary>Neither side has moved a byte for longer than the deadline.</summary>
    NoProgress,

    /// <summary>The source closed the connection before it got the confirmation that everything has arrived, or did not read it.</summary>
    SourceFailed,

    /// <summary>The target says that it failed, or ended without saying that it succeeded.</summary>
    TargetFailed,

    /// <summary>The target closed a channel without reading it: it has fewer channels than the migration.</summary>
    TargetDroppedChannel,

    /// <summary>The target does not receive device state alone: it takes a whole migration, with the machine's configuration.</summary>
    TargetTakesWholeMigrations,

    /// <summary>The archive is not complete, or its bytes are not those that were received.</summary>
    ArchiveInvalid,

    /// <summary>The folder for the archive is not empty.</summary>
    ArchiveExists,
}

/// <summary>A failure of multifd channels, of the main stream beside them, or of an archive of both.</summary>
public sealed class MultifdException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">Why it failed.</param>
    /// <param name="message">What happened, with channel and byte offset.</param>
    /// <param name="innerException">The cause, if any.</param>
    /// <param name="action">What to do next, where the general advice for the reason is not enough.</param>
    public MultifdException(MultifdError reason, string message, Exception? innerException = null, string? action = null)
        : base("Multifd" + reason, KindOf(reason), message, action ?? ActionOf(reason), innerException)
        => Reason = reason;

    /// <summary>Why it failed.</summary>
    public MultifdError Reason { get; }

    internal static MultifdException At(MultifdError reason, string channel, long offset, string what)
        => new(reason, $"{channel}, byte {offset:N0}: {what}.") { Section = channel, ByteOffset = offset };

    private static FailureKind KindOf(MultifdError reason) => reason switch
    {
        MultifdError.MissingChannel or MultifdError.MissingMainChannel or MultifdError.SourceFailed => FailureKind.Connection,
        MultifdError.MissingSync or MultifdError.ArchiveInvalid => FailureKind.CorruptData,
        MultifdError.NoProgress => FailureKind.Timeout,
        MultifdError.TargetFailed or MultifdError.TargetDroppedChannel or MultifdError.TargetTakesWholeMigrations => FailureKind.Refused,
        MultifdError.ArchiveExists => FailureKind.InvalidArgument,
        _ => FailureKind.Protocol,
    };

    private static string ActionOf(MultifdError reason) => reason switch
    {
        MultifdError.UuidMismatch or MultifdError.DuplicateMainChannel or MultifdError.DuplicateChannel =>
            "Let one virtual machine at a time migrate to this address.",
        MultifdError.ChannelIdOutOfRange => "Give the same number of channels here as the source has in multifd-channels.",
        MultifdError.MissingChannel or MultifdError.MissingMainChannel =>
            "Check that the source has multifd on and migrates to this address, and look at its log.",
        MultifdError.MissingSync =>
            "Look at the source: it ended or was cancelled before the migration was complete. Migrate again.",
        MultifdError.NoProgress => "Look at the other side: it is connected and sends nothing. A longer timeout helps only a slow peer.",
        MultifdError.SourceFailed =>
            "Look at the source (query-migrate, query-status): its guest may run on there, so start nothing of what came here. If the guest is stopped there, resume it with cont. Then migrate again.",
        MultifdError.TargetFailed => "Look at the target's log, and compare its machine and devices with the archive's source.",
        MultifdError.TargetDroppedChannel => "Set multifd-channels of the target to the number of channels that the archive has.",
        MultifdError.TargetTakesWholeMigrations =>
            "Send state files to a receiver of this module. A QEMU loads a whole migration: keep one in an archive, and replay that.",
        MultifdError.ArchiveInvalid => "Receive the migration again. What the archive has must not be loaded.",
        MultifdError.ArchiveExists => "Give a folder that is empty or not there yet.",
        _ => "The source broke the multifd protocol. Do not trust this migration: repeat it, and report it with an archive of it.",
    };
}
