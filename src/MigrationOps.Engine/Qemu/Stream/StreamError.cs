namespace MigrationOps.Engine.Qemu;

/// <summary>Why a migration stream could not be read, or is not what it must be.</summary>
public enum StreamError
{
    /// <summary>The bytes are not a migration stream, a libvirt image or an archive.</summary>
    NotAStream,

    /// <summary>A stream version that QEMU itself no longer reads, or does not know yet.</summary>
    UnsupportedVersion,

    /// <summary>The stream ends inside an element.</summary>
    Truncated,

    /// <summary>An unknown section type, flag or word.</summary>
    UnknownElement,

    /// <summary>A section whose footer is missing or names another section: its body is shorter or longer than expected.</summary>
    FooterMismatch,

    /// <summary>A section id that no section has started, or that two devices use.</summary>
    InvalidSectionId,

    /// <summary>An idstr, machine type, capability or block name that is empty or not valid UTF-8.</summary>
    InvalidName,

    /// <summary>A configuration with an unknown subsection, or with a length, count or page size that is out of range.</summary>
    InvalidConfiguration,

    /// <summary>An invalid RAM block list or page.</summary>
    InvalidRam,

    /// <summary>A command that is unknown, has data of the wrong length, or is not allowed there.</summary>
    InvalidCommand,

    /// <summary>A package of postcopy's device state that is too long, or whose length does not fit what is in it.</summary>
    InvalidPackage,

    /// <summary>A message of the return path that is unknown, has data of the wrong length, or is not allowed there.</summary>
    InvalidReturnPath,

    /// <summary>The stream's description is not JSON, or not of the form that QEMU writes.</summary>
    InvalidDescription,

    /// <summary>A section's body is not what the stream's description says.</summary>
    DescriptionMismatch,

    /// <summary>The stream has no description, so that the fields cannot be named.</summary>
    NoDescription,

    /// <summary>A packet does not start with the packet magic: the channel is out of step.</summary>
    InvalidPacketMagic,

    /// <summary>Counts, sizes or compression bits in a RAM packet that contradict each other or the page size, or pages outside their block.</summary>
    InvalidRamPacket,

    /// <summary>A packet of more data than the limit.</summary>
    PacketTooLarge,

    /// <summary>A device-state packet without payload.</summary>
    EmptyDevicePacket,

    /// <summary>A device-state packet with the SYNC flag, or with a compression.</summary>
    InvalidDeviceFlags,

    /// <summary>A device-state packet whose idstr has no NUL, is empty, or is not valid UTF-8.</summary>
    InvalidIdStr,

    /// <summary>A payload shorter than the packet header of VFIO.</summary>
    ShortPacket,

    /// <summary>The index 0xffffffff in a VFIO packet, which QEMU reserves.</summary>
    InvalidIndex,

    /// <summary>An index so far ahead that no source sends it.</summary>
    IndexBeyondWindow,

    /// <summary>An index that is present already.</summary>
    DuplicateIndex,

    /// <summary>An index that has been delivered already.</summary>
    IndexBehind,

    /// <summary>A second config packet of a device.</summary>
    DuplicateConfig,

    /// <summary>A config packet whose index is below that of a data packet.</summary>
    ConfigTooEarly,

    /// <summary>A data packet with an index beyond that of the config packet.</summary>
    PacketAfterConfig,

    /// <summary>The channels ended, and a data packet of a device is missing.</summary>
    MissingPacket,

    /// <summary>The channels ended without the config packet of a device, or a stored state has no config state.</summary>
    MissingConfig,

    /// <summary>A config packet or section that does not hold a config state.</summary>
    InvalidConfig,

    /// <summary>A config state without its end mark.</summary>
    TruncatedConfig,

    /// <summary>A word in a VFIO section that is not a marker, or a data length that is out of range.</summary>
    InvalidMarker,

    /// <summary>A disk image whose tables contradict its format, or that changed while it was read.</summary>
    InvalidImage,

    /// <summary>An invalid chunk list of a vhost-user back-end.</summary>
    InvalidChunks,

    /// <summary>Reading on would take more memory than allowed.</summary>
    LimitExceeded,

    /// <summary>The device, section or RAM block is not in the stream.</summary>
    NotFound,

    /// <summary>A compression for which no program is installed, or that failed.</summary>
    Decompression,

    /// <summary>A kind of content that this operation does not support.</summary>
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

    /// <summary>True if it is about the state of a VFIO device rather than the channels that carry it.</summary>
    internal bool ConcernsDevice => Reason is StreamError.ShortPacket or StreamError.InvalidIndex or StreamError.IndexBeyondWindow
        or StreamError.DuplicateIndex or StreamError.IndexBehind or StreamError.DuplicateConfig or StreamError.ConfigTooEarly
        or StreamError.PacketAfterConfig or StreamError.MissingPacket or StreamError.MissingConfig or StreamError.InvalidConfig
        or StreamError.TruncatedConfig or StreamError.InvalidMarker;

    /// <summary>A failure at a byte of one of several streams.</summary>
    /// <param name="reason">Why.</param>
    /// <param name="source">What errors call the stream, such as "channel 3".</param>
    /// <param name="offset">Where.</param>
    /// <param name="what">What was expected and found, without the place.</param>
    internal static StreamException In(StreamError reason, string? source, long offset, string what)
        => new(reason, $"{source ?? "the channel"}, byte {offset:N0}: {what}.") { Section = source, ByteOffset = offset };

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
        StreamError.NotAStream => FailureKind.CorruptData,
        StreamError.UnsupportedVersion or StreamError.NotSupported or StreamError.Decompression => FailureKind.NotSupported,
        StreamError.LimitExceeded => FailureKind.LimitExceeded,
        StreamError.NotFound or StreamError.NoDescription => FailureKind.NotFound,
        StreamError.PacketTooLarge or StreamError.IndexBeyondWindow => FailureKind.LimitExceeded,
        StreamError.InvalidCommand or StreamError.InvalidReturnPath or StreamError.InvalidPacketMagic or StreamError.InvalidRamPacket
            or StreamError.EmptyDevicePacket or StreamError.InvalidDeviceFlags or StreamError.InvalidIdStr or StreamError.ShortPacket
            or StreamError.InvalidIndex or StreamError.DuplicateIndex or StreamError.IndexBehind or StreamError.DuplicateConfig
            or StreamError.ConfigTooEarly or StreamError.PacketAfterConfig or StreamError.InvalidMarker => FailureKind.Protocol,
        _ => FailureKind.CorruptData,
    };

    private static string ActionOf(StreamError reason) => reason switch
    {
        StreamError.NotAStream => "Give a file that QEMU's migrate wrote, a libvirt save image, or the folder of a multifd archive. If a peer sent it, check what connects to this address: a migration with TLS needs credentials here, one without must not have it.",
        StreamError.UnsupportedVersion => "Write the stream again with a supported QEMU.",
        StreamError.Truncated => "The rest of the stream is missing, and QEMU fails where it ends. Look for another copy, save the VM again or migrate again; check that the disk was not full, and look at the source: it may have stopped sending.",
        StreamError.InvalidDescription or StreamError.DescriptionMismatch =>
            "QEMU does not read the description, so that it may load the stream. Without it the fields have no names here.",
        StreamError.PacketTooLarge => "Raise the packet limit if the source really sends packets of this size.",
        StreamError.IndexBeyondWindow => "Do not trust this migration. Raise the window if the source really runs so far ahead.",
        StreamError.MissingPacket or StreamError.MissingConfig or StreamError.InvalidConfig or StreamError.TruncatedConfig
            => "Do not load this state: it is incomplete. Keep the source as it is and migrate again.",
        StreamError.InvalidPacketMagic or StreamError.InvalidRamPacket or StreamError.EmptyDevicePacket or StreamError.InvalidDeviceFlags
            or StreamError.InvalidIdStr or StreamError.ShortPacket or StreamError.InvalidIndex or StreamError.DuplicateIndex or StreamError.IndexBehind
            or StreamError.DuplicateConfig or StreamError.ConfigTooEarly or StreamError.PacketAfterConfig or StreamError.InvalidMarker
            => "The source broke the protocol of multifd channels or VFIO device state. Do not trust this migration: repeat it, and report it with an archive of it.",
        StreamError.InvalidCommand or StreamError.InvalidReturnPath => "The peer broke the migration protocol there. Check its version.",
        StreamError.InvalidPackage => "Send less state without iterating, or check the version of the source.",
        StreamError.LimitExceeded => "If the stream is trusted, allow more memory.",
        StreamError.NotFound => "List what the stream holds.",
        StreamError.NoDescription => "Export the section raw, or save with a machine type that writes a description.",
        StreamError.Decompression => "Install the program that the message names.",
        StreamError.NotSupported => "Use a stream of another kind for this.",
        StreamError.InvalidImage => "Look at the image with qemu-img check while no QEMU has it open.",
        _ => "The stream is damaged there, or was written by an unknown QEMU. Do not load it; save the VM again.",
    };
}
