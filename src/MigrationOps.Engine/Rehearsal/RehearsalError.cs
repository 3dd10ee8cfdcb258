namespace MigrationOps.Engine.Rehearsal;

/// <summary>Why a stream could not be rehearsed. That QEMU refuses the stream is a result, not one of these.</summary>
public enum RehearsalError
{
    /// <summary>The command line is malformed.</summary>
    InvalidCommandLine,

    /// <summary>A device needs something that only the destination's VM may hold: hardware, or a back-end process.</summary>
    DeviceNotAvailable,

    /// <summary>The program did not start as a waiting QEMU; its output is in the message.</summary>
    StartFailed,

    /// <summary>The program ended or stopped answering without a verdict on the stream.</summary>
    NoVerdict,

    /// <summary>The stream cannot be given to a waiting QEMU.</summary>
    NotSupported,
}

/// <summary>A rehearsal without a verdict.</summary>
public sealed class RehearsalException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">Why it failed.</param>
    /// <param name="message">What was found.</param>
    /// <param name="innerException">The cause, if any.</param>
    /// <param name="action">What to do next, where the general advice for the reason is not enough.</param>
    public RehearsalException(RehearsalError reason, string message, Exception? innerException = null, string? action = null)
        : base("Rehearsal" + reason, KindOf(reason), message, action ?? ActionOf(reason), innerException)
        => Reason = reason;

    /// <summary>Why it failed.</summary>
    public RehearsalError Reason { get; }

    private static FailureKind KindOf(RehearsalError reason) => reason switch
    {
        RehearsalError.InvalidCommandLine or RehearsalError.StartFailed => FailureKind.InvalidArgument,
        RehearsalError.NoVerdict => FailureKind.Refused,
        _ => FailureKind.NotSupported,
    };

    private static string ActionOf(RehearsalError reason) => reason switch
    {
        RehearsalError.InvalidCommandLine => "Give the arguments as the destination's QEMU gets them, each option before its value.",
        RehearsalError.DeviceNotAvailable => "Compare the streams instead, or leave the device out of both sides and rehearse the rest.",
        RehearsalError.StartFailed => "Run the program with these arguments by hand: what it prints says which option it does not take.",
        RehearsalError.NoVerdict => "Look at the program's output. Nothing was loaded into a running VM.",
        _ => "Compare the streams instead.",
    };
}
