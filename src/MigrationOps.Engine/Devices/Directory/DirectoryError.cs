namespace MigrationOps.Engine.Devices;

/// <summary>Why a directory could not travel in a migration stream.</summary>
public enum DirectoryError
{
    /// <summary>The path is no directory.</summary>
    NotADirectory,

    /// <summary>The destination has something in it.</summary>
    DestinationNotEmpty,

    /// <summary>A name that cannot be sent, or must not be received: absolute, with "..", or not text.</summary>
    UnsafePath,

    /// <summary>Something that is neither a file nor a directory nor a symbolic link.</summary>
    UnsupportedFile,

    /// <summary>Something changed after the device had been stopped.</summary>
    ChangedAfterStop,

    /// <summary>A section that is not that of a directory, or a record in it that cannot be.</summary>
    InvalidRecord,

    /// <summary>A file whose content is not what the source read.</summary>
    Damaged,

    /// <summary>What came is less than what the source has.</summary>
    Incomplete,

    /// <summary>More entries than can be kept track of.</summary>
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
