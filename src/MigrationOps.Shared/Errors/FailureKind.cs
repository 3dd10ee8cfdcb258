namespace MigrationOps;

/// <summary>The sorts of failure that an operator tells apart.</summary>
public enum FailureKind
{
    /// <summary>An argument that can never work.</summary>
    InvalidArgument,

    /// <summary>A file, socket or device that is not there.</summary>
    NotFound,

    /// <summary>A peer that could not be reached, or a connection that broke.</summary>
    Connection,

    /// <summary>Nothing happened for longer than the deadline.</summary>
    Timeout,

    /// <summary>The peer understood and said no, or said that it failed.</summary>
    Refused,

    /// <summary>The peer broke the protocol.</summary>
    Protocol,

    /// <summary>Stored or received bytes are not what they must be.</summary>
    CorruptData,

    /// <summary>A file or disk could not be written or read.</summary>
    Storage,

    /// <summary>The operating system does not allow it.</summary>
    Permission,

    /// <summary>The peer or this version does not have the feature.</summary>
    NotSupported,

    /// <summary>More than a limit allows.</summary>
    LimitExceeded,

    /// <summary>The thing is in a state that does not allow it now.</summary>
    InvalidState,

    /// <summary>An authentication or certificate that was not accepted.</summary>
    Security,
}
