namespace MigrationOps.Engine.Cpr;

/// <summary>Why a hand-over of descriptors failed.</summary>
public enum CprError
{
    /// <summary>The bytes do not start with the magic of a CPR state (QCPR).</summary>
    BadMagic,

    /// <summary>A container version that is not 1.</summary>
    UnsupportedVersion,

    /// <summary>A section behind the list of descriptors that this version does not know.</summary>
    UnsupportedSection,

    /// <summary>A hand-over mode that is not supported here.</summary>
    UnsupportedMode,

    /// <summary>The state ends too early.</summary>
    Truncated,

    /// <summary>A byte with a fixed value has another value.</summary>
    InvalidMarker,

    /// <summary>A name of length zero, without its NUL, or with a NUL inside.</summary>
    InvalidName,

    /// <summary>A name longer than 4,096 bytes.</summary>
    NameTooLong,

    /// <summary>More entries than one state may have.</summary>
    TooManyEntries,

    /// <summary>An entry came without its descriptor.</summary>
    MissingDescriptor,

    /// <summary>More descriptors came than entries.</summary>
    UnclaimedDescriptors,

    /// <summary>The kernel dropped descriptors on receipt (MSG_CTRUNC).</summary>
    DescriptorsLost,

    /// <summary>Two entries with the same name and id.</summary>
    DuplicateEntry,

    /// <summary>Bytes behind the end of the state.</summary>
    TrailingData,

    /// <summary>A peer whose user is not allowed.</summary>
    PeerNotAllowed,

    /// <summary>The peer closed before it had read the state, or ended after it.</summary>
    NotTakenOver,

    /// <summary>A descriptor that is not open, or has become another one since it was registered.</summary>
    DescriptorClosed,

    /// <summary>An entry that is not in the registry.</summary>
    EntryNotFound,

    /// <summary>A set that lacks entries which were received.</summary>
    EntriesLost,

    /// <summary>More descriptors than this process may have open.</summary>
    DescriptorLimit,

    /// <summary>A file that is no description of a set.</summary>
    InvalidDescription,

    /// <summary>There is nothing to hand over, or no channel.</summary>
    NothingToDo,
}

/// <summary>A failure of the hand-over of descriptors. The registry is as it was before.</summary>
public sealed class CprException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">Why it failed.</param>
    /// <param name="message">What happened: peer, entry, byte offset.</param>
    /// <param name="innerException">The cause, if any.</param>
    /// <param name="action">What to do next, where the general advice for the reason is not enough.</param>
    public CprException(CprError reason, string message, Exception? innerException = null, string? action = null)
        : base("Cpr" + reason, KindOf(reason), message, action ?? ActionOf(reason), innerException)
        => Reason = reason;

    /// <summary>Why it failed.</summary>
    public CprError Reason { get; }

    private static FailureKind KindOf(CprError reason) => reason switch
    {
        CprError.BadMagic or CprError.InvalidMarker or CprError.InvalidName or CprError.MissingDescriptor
            or CprError.UnclaimedDescriptors or CprError.DuplicateEntry or CprError.TrailingData => FailureKind.Protocol,
        CprError.UnsupportedVersion or CprError.UnsupportedSection or CprError.UnsupportedMode => FailureKind.NotSupported,
        CprError.Truncated or CprError.InvalidDescription => FailureKind.CorruptData,
        CprError.NameTooLong or CprError.TooManyEntries or CprError.DescriptorsLost or CprError.DescriptorLimit
            => FailureKind.LimitExceeded,
        CprError.PeerNotAllowed => FailureKind.Permission,
        CprError.NotTakenOver => FailureKind.Refused,
        CprError.EntryNotFound => FailureKind.NotFound,
        _ => FailureKind.InvalidState,
    };

    private static string ActionOf(CprError reason) => reason switch
    {
        CprError.BadMagic => "Check that the peer sends its 'cpr' channel here, and its 'main' channel elsewhere.",
        CprError.UnsupportedVersion or CprError.UnsupportedSection =>
            "Use a MigrationOps that knows this QEMU's version, or QEMU 10.0 to 11.1 on this side.",
        CprError.UnsupportedMode => "Use mode cpr-transfer, or cpr-exec with QEMU 10.2 or later.",
        CprError.Truncated => "Look at the log of the sender, and let it send again; its guest runs on.",
        CprError.DescriptorsLost or CprError.DescriptorLimit =>
            "Raise the limit of open files of this process (ulimit -n) and hand over again.",
        CprError.DuplicateEntry => "Remove one of the two, or close the whole set.",
        CprError.PeerNotAllowed => "Check who connected. If it is the right one, allow its user id.",
        CprError.NotTakenOver =>
            "Look at the log of the new process. The old one still has its guest: migrate_cancel there, then close the hand-over.",
        CprError.DescriptorClosed => "Register it again; nothing was sent.",
        CprError.EntryNotFound => "Look at the registry for the names and ids that are registered.",
        CprError.EntriesLost =>
            "The receiver would make fresh memory in place of what is missing and the guest's content would be lost. "
            + "Add the entries again, or allow the loss if they are not needed.",
        CprError.InvalidDescription => "Give a file with the description of a set.",
        CprError.NothingToDo => "Register a descriptor or receive a set first.",
        CprError.NameTooLong or CprError.InvalidName => "Name entries with 1 to 4,096 bytes without a NUL.",
        _ => "The sender does not speak QEMU's format. Look at its version and its log.",
    };
}
