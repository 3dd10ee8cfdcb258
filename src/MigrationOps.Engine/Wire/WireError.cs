namespace MigrationOps.Engine.Wire;

/// <summary>Why a transport, an endpoint or a primitive read failed, before any protocol is known.</summary>
public enum WireError
{
    /// <summary>An endpoint URI that is malformed.</summary>
    InvalidEndpoint,

    /// <summary>An endpoint that QEMU has and this operation does not support.</summary>
    UnsupportedEndpoint,

    /// <summary>The path does not exist.</summary>
    NotFound,

    /// <summary>The path exists and is not a socket.</summary>
    NotASocket,

    /// <summary>No process listens there, or the peer is not reachable.</summary>
    ConnectFailed,

    /// <summary>Listening on the address failed.</summary>
    ListenFailed,

    /// <summary>Nothing happened within the deadline.</summary>
    Timeout,

    /// <summary>The peer closed or reset the connection.</summary>
    Disconnected,

    /// <summary>The stream ended inside a message or record.</summary>
    UnexpectedEnd,

    /// <summary>File descriptors were lost on receipt (MSG_CTRUNC).</summary>
    DescriptorsLost,

    /// <summary>More file descriptors than the protocol allows, or than this process may hold.</summary>
    TooManyDescriptors,

    /// <summary>A read or write failed in the operating system.</summary>
    InputOutput,

    /// <summary>The operating system refused access.</summary>
    AccessDenied,

    /// <summary>The disk or quota is full.</summary>
    NoSpace,

    /// <summary>A network listener or sender without TLS and without -AllowPlaintext.</summary>
    PlaintextRefused,

    /// <summary>A certificate or key that is missing, unreadable or not accepted by either side.</summary>
    TlsFailed,
}

/// <summary>A failure below the protocols: endpoints, sockets, files, descriptors.</summary>
public sealed class WireException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">Why it failed.</param>
    /// <param name="message">What happened, with names.</param>
    /// <param name="innerException">The cause, if any.</param>
    /// <param name="action">What to do next, where the general advice for the reason is not enough.</param>
    public WireException(WireError reason, string message, Exception? innerException = null, string? action = null)
        : base("Wire" + reason, KindOf(reason), message, action ?? ActionOf(reason), innerException)
        => Reason = reason;

    /// <summary>Why it failed.</summary>
    public WireError Reason { get; }

    private static FailureKind KindOf(WireError reason) => reason switch
    {
        WireError.InvalidEndpoint or WireError.NotASocket => FailureKind.InvalidArgument,
        WireError.UnsupportedEndpoint => FailureKind.NotSupported,
        WireError.NotFound => FailureKind.NotFound,
        WireError.ConnectFailed or WireError.ListenFailed or WireError.Disconnected => FailureKind.Connection,
        WireError.Timeout => FailureKind.Timeout,
        WireError.UnexpectedEnd => FailureKind.CorruptData,
        WireError.DescriptorsLost or WireError.TooManyDescriptors => FailureKind.LimitExceeded,
        WireError.AccessDenied => FailureKind.Permission,
        WireError.PlaintextRefused or WireError.TlsFailed => FailureKind.Security,
        _ => FailureKind.Storage,
    };

    private static string ActionOf(WireError reason) => reason switch
    {
        WireError.InvalidEndpoint =>
            "Write the endpoint as unix:PATH, tcp:HOST:PORT, file:PATH[,offset=N] or fd:N.",
        WireError.UnsupportedEndpoint => "Use another kind of endpoint for this.",
        WireError.NotFound =>
            "Check the path, and that the peer has been started. Some back-ends, virtiofsd for one, remove their socket once a front-end holds them.",
        WireError.NotASocket => "Give the path of the UNIX socket on which the peer listens.",
        WireError.ConnectFailed =>
            "Check that the peer runs and listens there. Many back-ends serve one connection and then stop listening.",
        WireError.ListenFailed =>
            "Check that the address is local and free. Remove a socket file that an ended process left behind.",
        WireError.Timeout => "Look at the peer: it is alive but does not answer. A longer timeout helps only a slow peer.",
        WireError.Disconnected => "Look at the log of the peer: it ended the connection.",
        WireError.UnexpectedEnd => "Transfer it again; what arrived is incomplete.",
        WireError.DescriptorsLost or WireError.TooManyDescriptors =>
            "Raise the limit of open files of this process (ulimit -n) and transfer again.",
        WireError.AccessDenied => "Run as a user who may use it, or change its owner or mode.",
        WireError.NoSpace => "Free space on the destination, or choose another one. The previous file is as it was.",
        WireError.PlaintextRefused =>
            "Give credentials in QEMU's x509 layout, or allow plain text if the network is trusted.",
        WireError.TlsFailed => "Check the certificates on both sides: issuer, host name and validity. Say which host name to expect where it is not that of the address.",
        _ => "Look at the cause; the operating system reported it.",
    };
}
