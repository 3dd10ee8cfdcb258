namespace MigrationOps.Engine.Storage;

/// <summary>What can be wrong with a state file. Each has its own name, because each asks for another step.</summary>
public enum StateFileError
{
    /// <summary>There is no such file.</summary>
    NotFound,

    /// <summary>The path is not a regular file.</summary>
    NotAFile,

    /// <summary>It does not start with the magic of a state file.</summary>
    NotAStateFile,

    /// <summary>It was written by a later version of the format.</summary>
    UnsupportedVersion,

    /// <summary>It holds the state of another kind of device.</summary>
    WrongKind,

    /// <summary>It ends before its end mark.</summary>
    Truncated,

    /// <summary>It has data behind its end mark.</summary>
    TrailingBytes,

    /// <summary>Its digest does not match: the bytes were changed after they were written.</summary>
    Damaged,

    /// <summary>A name or part is longer than the limit.</summary>
    Malformed,

    /// <summary>Its manifest is missing.</summary>
    ManifestMissing,

    /// <summary>Its manifest cannot be read.</summary>
    ManifestInvalid,

    /// <summary>Its manifest describes another state.</summary>
    ManifestForeign,

    /// <summary>Its digest is not the expected one.</summary>
    DigestMismatch,

    /// <summary>Raw bytes cannot be used here: they have no end mark.</summary>
    RawNotAllowed,
}

/// <summary>A failure of a state file or of the same format on a connection.</summary>
public sealed class StateFileException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">What is wrong.</param>
    /// <param name="message">What happened, with the name of the file and the offset.</param>
    /// <param name="innerException">The cause, if any.</param>
    public StateFileException(StateFileError reason, string message, Exception? innerException = null)
        : base("StateFile" + reason, KindOf(reason), message, ActionOf(reason), innerException)
        => Reason = reason;

    /// <summary>What is wrong.</summary>
    public StateFileError Reason { get; }

    private static FailureKind KindOf(StateFileError reason) => reason switch
    {
        StateFileError.NotFound or StateFileError.ManifestMissing => FailureKind.NotFound,
        StateFileError.UnsupportedVersion => FailureKind.NotSupported,
        StateFileError.NotAFile or StateFileError.WrongKind or StateFileError.RawNotAllowed => FailureKind.InvalidArgument,
        _ => FailureKind.CorruptData,
    };

    private static string ActionOf(StateFileError reason) => reason switch
    {
        StateFileError.NotFound => "Check the path.",
        StateFileError.NotAFile => "Give the path of a regular file; a pipe or socket that is open is read as fd:N.",
        StateFileError.NotAStateFile => "Give a file that this module wrote, or say that it holds bare bytes.",
        StateFileError.UnsupportedVersion => "Use the version of MigrationOps that wrote it, or a later one.",
        StateFileError.WrongKind => "Give the state of the same kind of device.",
        StateFileError.Truncated or StateFileError.Damaged or StateFileError.Malformed =>
            "Save the state again at the source, or take another copy and compare it with its manifest.",
        StateFileError.TrailingBytes => "Find out what appended to it; save the state again, or take another copy.",
        StateFileError.ManifestMissing => "Copy the manifest (the file with .json behind its name) along with the state file.",
        StateFileError.ManifestInvalid => "Take the manifest from the source again.",
        StateFileError.ManifestForeign => "Put the manifest that was written with this state file beside it.",
        StateFileError.DigestMismatch => "Find out which of the two is the state that you mean; load neither before that.",
        _ => "Use no raw bytes on either side, so that the end of the state can be told from a broken connection.",
    };
}
