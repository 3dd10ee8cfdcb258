namespace MigrationOps;

/// <summary>
/// What every failure of MigrationOps carries. Each protocol area has one subclass with its own reason enum; PowerShell
/// maps all of them to error records in one place.
/// </summary>
public abstract class MigrationOpsException : Exception
{
    /// <summary>Creates the failure.</summary>
    /// <param name="errorId">Stable PascalCase name, the same in every release.</param>
    /// <param name="kind">What sort of failure it is.</param>
    /// <param name="message">What happened: names the peer, the message or section and the byte offset.</param>
    /// <param name="recommendedAction">What the operator does next.</param>
    /// <param name="innerException">The cause, if another failure led here.</param>
    protected MigrationOpsException(
        string errorId, FailureKind kind, string message, string recommendedAction, Exception? innerException)
        : base(message, innerException)
    {
        ErrorId = errorId;
        Kind = kind;
        RecommendedAction = recommendedAction;
    }

    /// <summary>Stable PascalCase name of the failure, for scripts that branch on it.</summary>
    public string ErrorId { get; }

    /// <summary>What sort of failure it is; PowerShell derives the error category from it.</summary>
    public FailureKind Kind { get; }

    /// <summary>What the operator does next, in one or two sentences.</summary>
    public string RecommendedAction { get; }

    /// <summary>The other side, as far as it is known: a socket path, an address, a process.</summary>
    public string? Peer { get; init; }

    /// <summary>The message, section or chunk in which it happened.</summary>
    public string? Section { get; init; }

    /// <summary>The offset in bytes from the start of the stream or file at which it happened.</summary>
    public long? ByteOffset { get; init; }

    /// <summary>What was acted on: a path, a URI, a device.</summary>
    public object? Target { get; init; }

    /// <summary>Which side has the VM after the failure of a migration; null if the failure was not a migration's.</summary>
    public MigrationOwner? Owner { get; set; }
}
