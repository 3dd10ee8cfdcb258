namespace MigrationOps.Engine.Moving;

/// <summary>Why a move failed.</summary>
public enum MoveError
{
    /// <summary>Source and target are the same process, or two different VMs.</summary>
    WrongPair,

    /// <summary>The source is in a state that cannot be migrated.</summary>
    SourceState,

    /// <summary>The target does not wait for a migration.</summary>
    TargetState,

    /// <summary>The pre-flight found something that forbids the migration.</summary>
    Blocked,

    /// <summary>An option that this QEMU or this mode cannot have.</summary>
    InvalidOption,

    /// <summary>A QEMU refused a step before memory was sent.</summary>
    SetupRefused,

    /// <summary>The target refused what the source sent.</summary>
    TargetRefused,

    /// <summary>The migration failed; the source has said why.</summary>
    MigrationFailed,

    /// <summary>Nothing was sent for longer than the limit.</summary>
    NoProgress,

    /// <summary>The memory changes faster than it can be sent, and no further action was allowed.</summary>
    NotConverging,

    /// <summary>It took longer than was allowed.</summary>
    TooLong,

    /// <summary>It was cancelled.</summary>
    Cancelled,

    /// <summary>A QEMU that had part of the guest is dead: the guest is lost.</summary>
    GuestLost,

    /// <summary>The commit was written, and no answer tells whether the target runs.</summary>
    CommitUnknown,

    /// <summary>The migration ended, and neither side runs the VM.</summary>
    NotRunning,

    /// <summary>Both sides run the VM.</summary>
    SplitBrain,

    /// <summary>A postcopy migration cannot be cancelled: the guest runs on the target already.</summary>
    InPostcopy,

    /// <summary>The source waits for the target's last word: cancelled now, it would run again while the target may start by itself.</summary>
    InSwitchover,

    /// <summary>The migration is in no state that can be resumed or switched.</summary>
    NotResumable,

    /// <summary>Another process drives this move.</summary>
    JournalInUse,

    /// <summary>The journal cannot be written.</summary>
    JournalUnusable,

    /// <summary>The journal is no journal of a move, or contradicts itself.</summary>
    JournalInvalid,

    /// <summary>No step is safe that could be done without a person.</summary>
    NotRepairable,

    /// <summary>A step that the state of the move does not allow; a fault of this program.</summary>
    IllegalTransition,
}

/// <summary>A failure of a move between two QEMUs, or of finding out how one ended.</summary>
public sealed class MoveException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">Why it failed.</param>
    /// <param name="message">What happened, at which side.</param>
    /// <param name="innerException">The cause, if any.</param>
    /// <param name="action">What to do next, where the general advice for the reason is not enough.</param>
    public MoveException(MoveError reason, string message, Exception? innerException = null, string? action = null)
        : base("Move" + reason, KindOf(reason), message, action ?? ActionOf(reason), innerException)
        => Reason = reason;

    /// <summary>Why it failed.</summary>
    public MoveError Reason { get; }

    private static FailureKind KindOf(MoveError reason) => reason switch
    {
        MoveError.WrongPair or MoveError.InvalidOption => FailureKind.InvalidArgument,
        MoveError.SetupRefused or MoveError.TargetRefused or MoveError.Blocked => FailureKind.Refused,
        MoveError.MigrationFailed or MoveError.GuestLost => FailureKind.Connection,
        MoveError.NoProgress or MoveError.TooLong or MoveError.NotConverging or MoveError.CommitUnknown => FailureKind.Timeout,
        MoveError.JournalUnusable => FailureKind.Storage,
        MoveError.JournalInvalid => FailureKind.CorruptData,
        _ => FailureKind.InvalidState,
    };

    private static string ActionOf(MoveError reason) => reason switch
    {
        MoveError.WrongPair => "Give the monitor of the VM and the monitor of the QEMU that waits for it.",
        MoveError.SourceState => "Bring the VM to running or paused. After an earlier migration find out first who runs it.",
        MoveError.TargetState => "Start the target with the source's arguments and -incoming defer. A QEMU takes one migration only: start it again after a failure.",
        MoveError.Blocked => "Follow the action of each blocker in the report, or use force where you know better.",
        MoveError.InvalidOption => "Leave the option out, or use a QEMU that has it.",
        MoveError.SetupRefused => "Read QEMU's answer in the message. The VM runs at the source; nothing was sent.",
        MoveError.TargetRefused => "Compare the target's command line with the source's; the message names the section and field if QEMU said them.",
        MoveError.MigrationFailed => "Read both sides' words in the result. Start the target again before you repeat it.",
        MoveError.NoProgress => "Check the network between the hosts and whether the target's process is stopped.",
        MoveError.NotConverging => "Allow more bandwidth or downtime, or more actions.",
        MoveError.TooLong => "Allow more time or bandwidth.",
        MoveError.Cancelled => "Start the target again before you repeat it.",
        MoveError.GuestLost => "Start the VM from its disks, on one host.",
        MoveError.CommitUnknown => "Do not start the source. Reach the target, or fence its host; then resolve the move by its journal.",
        MoveError.NotRunning => "Resolve the move by its journal: it says which side may be continued.",
        MoveError.SplitBrain => "Look at the evidence, decide which side to keep, and end the other one's process.",
        MoveError.InPostcopy => "Let it complete, or resume it when it is paused.",
        MoveError.InSwitchover => "Wait for its end, or give the target too: it is made unable to start first.",
        MoveError.NotResumable => "Ask for the state of the migration and resolve the move.",
        MoveError.JournalInUse => "Wait for the process that drives the move, or end it.",
        MoveError.JournalUnusable => "Give a journal in a folder that exists and may be written.",
        MoveError.JournalInvalid => "Give the journal that the move wrote, or both monitors.",
        MoveError.NotRepairable => "Follow the reason of the verdict: it says what has to be known first.",
        _ => "Report it with the journal of the move.",
    };
}
