namespace MigrationOps.Engine.Devices;

/// <summary>Why a directory could not travel in a migration stream.</summary>
public enum DirectoryError
{
    /// <summary>The path is not a directory.</summary>
    NotADirectory,

    /// <summary>The destination is not empty.</summary>
    DestinationNotEmpty,

    /// <summary>A name that cannot be sent, or must not be received: absolute, with "..", or not text.</summary>
    UnsafePath,

    /// <summary>An entry that is not a file, a directory or a symbolic link.</summary>
    UnsupportedFile,

    /// <summary>A file or directory changed after the device had been stopped.</summary>
    ChangedAfterStop,

    /// <summary>The section is not a directory section, or a record in it is invalid.</summary>
    InvalidRecord,

    /// <summary>The content of a file differs from what the source read.</summary>
    Damaged,

    /// <summary>The received tree has fewer entries or bytes than the source announced.</summary>
    Incomplete,

    /// <summary>More entries than the limit.</summary>
    TooManyEntries,
}

/// <summary>A failure with a directory that travels in a migration stream. It names the file.</summary>
public sealed class DirectoryException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">Why it failed.</param>
    /// <param name="message">What happened, with the path.</param>
    /// <param name="innerException">The cause, if any.</param>
    public DirectoryException(DirectoryError reason, string message, Exception? innerException = null)
        : base("Directory" + reason, KindOf(reason), message, ActionOf(reason), innerException)
        => Reason = reason;

    /// <summary>Why it failed.</summary>
    public DirectoryError Reason { get; }

    private static FailureKind KindOf(DirectoryError reason) => reason switch
    {
        DirectoryError.NotADirectory => FailureKind.InvalidArgument,
        DirectoryError.DestinationNotEmpty or DirectoryError.ChangedAfterStop => FailureKind.InvalidState,
        DirectoryError.UnsafePath => FailureKind.Security,
        DirectoryError.UnsupportedFile => FailureKind.NotSupported,
        DirectoryError.TooManyEntries => FailureKind.LimitExceeded,
        _ => FailureKind.CorruptData,
    };

    private static string ActionOf(DirectoryError reason) => reason switch
    {
        DirectoryError.NotADirectory => "Give the path of a directory.",
        DirectoryError.DestinationNotEmpty => "Give a directory that is empty or not there yet.",
        DirectoryError.UnsafePath => "Do not trust this stream if it was received; rename the file if it is the source's.",
        DirectoryError.UnsupportedFile => "Remove it, or leave it out of what is sent.",
        DirectoryError.ChangedAfterStop => "Have the device's stop end everything that writes into the directory, and migrate again.",
        DirectoryError.TooManyEntries => "Move parts of the directory as devices of their own.",
        _ => "Nothing of it is in the destination. Migrate again, with the same version on both sides.",
    };
}
