namespace MigrationOps.Engine.Qemu;

/// <summary>Why a migration stream could not be read, or is not what it must be.</summary>
public enum StreamError
{
    /// <summary>The bytes are no migration stream, libvirt image or archive.</summary>
    NotAStream,

    /// <summary>A stream version that QEMU itself no longer reads, or does not know yet.</summary>
    UnsupportedVersion,

    /// <summary>The stream ends inside something.</summary>
    Truncated,

    /// <summary>A section type, flag or word that the format does not have.</summary>
    UnknownElement,

    /// <summary>A section whose footer is missing or names another section: its body is shorter or longer than its reader took it for.</summary>
    FooterMismatch,

    /// <summary>A section id that no section has started, or that two devices use.</summary>
    InvalidSectionId,

    /// <summary>An idstr, machine type, capability or block name that is empty or no text.</summary>
    InvalidName,

    /// <summary>A configuration with an unknown subsection, or with a length, count or page size that is out of range.</summary>
    InvalidConfiguration,

    /// <summary>A RAM block list or page that cannot be.</summary>
    InvalidRam,

    /// <summary>A command that is unknown, has data of the wrong length, or comes where it must not.</summary>
    InvalidCommand,

    /// <summary>A package of postcopy's device state that is too long, or whose length does not fit what is in it.</summary>
    InvalidPackage,

    /// <summary>A message of the return path that is unknown, has data of the wrong length, or comes where it must not.</summary>
    InvalidReturnPath,

    /// <summary>The stream's description is no JSON, or not of the form that QEMU writes.</summary>
    InvalidDescription,

    /// <summary>A section's body is not what the stream's description says.</summary>
    DescriptionMismatch,

    /// <summary>The stream has no description, so that the fields cannot be named.</summary>
    NoDescription,

    /// <summary>A multifd packet or channel file that cannot be.</summary>
    InvalidPacket,

    /// <summary>A disk image whose tables contradict its format, or that changed while it was read.</summary>
    InvalidImage,

    /// <summary>A chunk list of a vhost-user back-end that cannot be.</summary>
    InvalidChunks,

    /// <summary>Reading on would take more memory than allowed.</summary>
    LimitExceeded,

    /// <summary>The device, section or RAM block is not in the stream.</summary>
    NotFound,

    /// <summary>A compression for which no program is installed, or that failed.</summary>
    Decompression,

    /// <summary>A kind of content that cannot be handled in this way.</summary>
    NotSupported,
}

/// <summary>A failure to read a migration stream. It names the section and the byte.</summary>
public sealed class StreamException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">Why it failed.</param>
    /// <param name="message">What happened, with section and byte offset.</param>
    /// <param name="innerException">The cause, if any.</param>
    /// <param name="action">What to do next, where the general advice for the reason is not enough.</param>
    public StreamException(StreamError reason, string message, Exception? innerException = null, string? action = null)
        : base("Stream" + reason, KindOf(reason), message, action ?? ActionOf(reason), innerException)
        => Reason = reason;

    /// <summary>Why it failed.</summary>
    public StreamError Reason { get; }

    /// <summary>A failure at a byte of a stream.</summary>
    /// <param name="reason">Why.</param>
    /// <param name="offset">Where.</param>
    /// <param name="what">What was expected and found, without the place.</param>
    /// <param name="section">How errors call the section, if it is in one.</param>
    /// <param name="action">What to do next, where the general advice for the reason is not enough.</param>
    internal static StreamException At(StreamError reason, long offset, string what, string? section = null, string? action = null)
        => new(reason, $"{what.TrimEnd('.')} at byte {offset:N0}.", action: action) { Section = section, ByteOffset = offset };

    private static FailureKind KindOf(StreamError reason) => reason switch
    {
        StreamError.NotAStream => FailureKind.InvalidArgument,
        StreamError.UnsupportedVersion or StreamError.NotSupported or StreamError.Decompression => FailureKind.NotSupported,
        StreamError.LimitExceeded => FailureKind.LimitExceeded,
        StreamError.NotFound or StreamError.NoDescription => FailureKind.NotFound,
        StreamError.InvalidCommand or StreamError.InvalidReturnPath => FailureKind.Protocol,
        _ => FailureKind.CorruptData,
    };

    private static string ActionOf(StreamError reason) => reason switch
    {
        StreamError.NotAStream => "Give a file that QEMU's migrate wrote, a libvirt save image, or the folder of a multifd archive. If a peer sent it, check what connects to this address: a migration with TLS needs -TlsCredential here, one without must not have it.",
        StreamError.UnsupportedVersion => "Write the stream again with a supported QEMU.",
        StreamError.Truncated => "The rest of the stream is missing, and QEMU fails where it ends. Look for another copy, save the VM again or migrate again; check that the disk was not full, and look at the source: it may have stopped sending.",
        StreamError.InvalidDescription or StreamError.DescriptionMismatch =>
            "QEMU does not read the description, so that it may load the stream. Without it the fields have no names here.",
        StreamError.InvalidCommand or StreamError.InvalidReturnPath => "The peer broke the migration protocol there. Check its version.",
        StreamError.InvalidPackage => "Send less state without iterating, or check the version of the source.",
        StreamError.LimitExceeded => "If the stream is trusted, allow more memory.",
        StreamError.NotFound => "List what the stream holds with Get-MigrationStream.",
        StreamError.NoDescription => "Export the section raw, or save with a machine type that writes a description.",
        StreamError.Decompression => "Install the program that the message names.",
        StreamError.NotSupported => "Use a stream of another kind for this.",
        StreamError.InvalidImage => "Look at the image with qemu-img check while no QEMU has it open.",
        _ => "The stream is damaged there, or was written by an unknown QEMU. Do not load it; save the VM again.",
    };
}
