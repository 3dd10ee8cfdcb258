namespace MigrationOps.Engine.Vhost;

/// <summary>What the embedded back-end does wrong, on order.</summary>
public enum VhostBackendFaultKind
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>Refuse the transfer in the reply to SET_DEVICE_STATE_FD.</summary>
    Refuse,

    /// <summary>Stop moving data after a number of bytes, and keep everything open.</summary>
    Stall,

    /// <summary>Close the channel and the connection after a number of bytes, as a killed process does.</summary>
    Close,

    /// <summary>End the channel after a number of bytes and say at CHECK_DEVICE_STATE that it failed.</summary>
    FailAtByte,

    /// <summary>Do everything right and say at CHECK_DEVICE_STATE that it failed.</summary>
    FailCheck,

    /// <summary>Announce a descriptor in the reply and send none.</summary>
    AnnounceMissingDescriptor,

    /// <summary>Announce no descriptor in the reply and send one.</summary>
    SendUnannouncedDescriptor,

    /// <summary>Answer the request with another request's id.</summary>
    WrongRequestId,

    /// <summary>Answer the request with a payload of four bytes.</summary>
    WrongSize,

    /// <summary>Answer the request with another protocol version.</summary>
    WrongVersion,

    /// <summary>Take the request and answer nothing, for ever.</summary>
    NoReply,

    /// <summary>Close the connection instead of answering the request.</summary>
    Hangup,
}

/// <summary>A fault of the embedded back-end.</summary>
/// <param name="Kind">What it does.</param>
/// <param name="AtByte">For <see cref="VhostBackendFaultKind.Stall"/>, <see cref="VhostBackendFaultKind.Close"/> and
/// <see cref="VhostBackendFaultKind.FailAtByte"/>: after so many bytes of the state.</param>
/// <param name="AtRequest">For the faults of a reply: which request it happens to.</param>
public sealed record VhostBackendFault(
    VhostBackendFaultKind Kind, long AtByte = 0, VhostUserRequest AtRequest = VhostUserRequest.SetDeviceStateFd)
{
    /// <summary>A back-end that does everything right.</summary>
    public static VhostBackendFault None { get; } = new(VhostBackendFaultKind.None);

    internal bool Hits(VhostUserRequest request, VhostBackendFaultKind kind) => Kind == kind && AtRequest == request;
}
