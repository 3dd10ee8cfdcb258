namespace MigrationOps.Engine.Vhost;

/// <summary>Why a conversation with a vhost-user back-end failed.</summary>
public enum VhostError
{
    /// <summary>The back-end did not answer a request within the deadline.</summary>
    Timeout,

    /// <summary>The back-end ended the connection.</summary>
    Disconnected,

    /// <summary>Virtio feature bit 30 is not offered.</summary>
    NoProtocolFeatures,

    /// <summary>Protocol feature bit 19 is not offered.</summary>
    NoDeviceState,

    /// <summary>The message is not a reply, or the reply to another request.</summary>
    UnexpectedReply,

    /// <summary>The reply does not have the size that the protocol defines.</summary>
    WrongReplySize,

    /// <summary>The reply has another protocol version.</summary>
    WrongVersion,

    /// <summary>The reply has descriptors that were not requested, or lacks one that it announces.</summary>
    ReplyDescriptorMismatch,

    /// <summary>The descriptor in the reply cannot be used in the direction of the transfer.</summary>
    UnusableReplyDescriptor,

    /// <summary>The back-end answered a request with a failure.</summary>
    RequestRefused,

    /// <summary>The back-end refused the transfer.</summary>
    TransferRefused,

    /// <summary>No byte of state moved within the deadline.</summary>
    TransferStalled,

    /// <summary>The transfer of the state ended early.</summary>
    TransferFailed,

    /// <summary>The back-end says that the transfer failed on its side.</summary>
    CheckFailed,

    /// <summary>The receiving host did not confirm that the state was loaded there.</summary>
    NotConfirmed,

    /// <summary>The protocol does not define this direction.</summary>
    UnknownDirection,

    /// <summary>The protocol does not define this phase.</summary>
    UnknownPhase,

    /// <summary>The order of the protocol does not allow the request now.</summary>
    OutOfOrder,
}

/// <summary>A failure of the conversation with a vhost-user back-end.</summary>
public sealed class VhostException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">Why it failed.</param>
    /// <param name="message">What happened, with the peer and the request.</param>
    /// <param name="transcript">The messages up to the failure.</param>
    /// <param name="innerException">The cause, if any.</param>
    public VhostException(VhostError reason, string message, IReadOnlyList<string>? transcript = null, Exception? innerException = null)
        : base("Vhost" + reason, KindOf(reason), message, ActionOf(reason), innerException)
    {
        Reason = reason;
        Transcript = transcript ?? [];
    }

    /// <summary>Why it failed.</summary>
    public VhostError Reason { get; }

    /// <summary>The messages that went over the socket before the failure, oldest first.</summary>
    public IReadOnlyList<string> Transcript { get; }

    private static FailureKind KindOf(VhostError reason) => reason switch
    {
        VhostError.Timeout or VhostError.TransferStalled => FailureKind.Timeout,
        VhostError.Disconnected or VhostError.TransferFailed or VhostError.NotConfirmed => FailureKind.Connection,
        VhostError.NoProtocolFeatures or VhostError.NoDeviceState => FailureKind.NotSupported,
        VhostError.RequestRefused or VhostError.TransferRefused or VhostError.CheckFailed => FailureKind.Refused,
        VhostError.UnknownDirection or VhostError.UnknownPhase => FailureKind.InvalidArgument,
        VhostError.OutOfOrder => FailureKind.InvalidState,
        _ => FailureKind.Protocol,
    };

    private static string ActionOf(VhostError reason) => reason switch
    {
        VhostError.Timeout or VhostError.TransferStalled =>
            "Look at the back-end: it is connected but makes no progress. If it is only slow, give a longer timeout. Start it anew before the next try.",
        VhostError.Disconnected or VhostError.TransferFailed =>
            "Look at the back-end's log for why it ended the connection, and start it anew before the next try.",
        VhostError.NoProtocolFeatures => "Use a back-end that offers VHOST_USER_F_PROTOCOL_FEATURES (feature bit 30).",
        VhostError.NoDeviceState =>
            "Use a version of the back-end that offers DEVICE_STATE (protocol feature bit 19), such as virtiofsd 1.11 or later; passt 2025_05_03 is known to do.",
        VhostError.RequestRefused => "Look at the back-end's log for why it refused the request.",
        VhostError.TransferRefused => "Look at the back-end's log for why it refused; check that the device is stopped.",
        VhostError.CheckFailed =>
            "Look at the back-end's log for the cause. Do not use what was transferred; start the back-end anew before the next try.",
        VhostError.NotConfirmed =>
            "Look at the receiving side: it did not say that the state was loaded. Treat the transfer as failed.",
        VhostError.UnknownDirection => "Use Save or Load.",
        VhostError.UnknownPhase => "Use Stopped: it is the only phase that the protocol has so far.",
        VhostError.OutOfOrder => "Negotiate first, transfer once, then check.",
        _ => "Report it to the authors of the back-end together with the transcript: it breaks the vhost-user protocol.",
    };
}
