namespace MigrationOps;

/// <summary>How a CPR state is written.</summary>
public enum CprStateLayout
{
    /// <summary>As the received state was; as QEMU 10.0's if none was received.</summary>
    AsReceived,

    /// <summary>QEMU 10.0: the list of descriptors alone.</summary>
    Qemu100,

    /// <summary>QEMU 10.1 and later: with the section of VFIO devices.</summary>
    Qemu101,
}

/// <summary>A CPR state that was sent, exposed or described.</summary>
public sealed record CprStateTransfer
{
    /// <summary>The process that took it, as far as the system tells: program, pid, uid.</summary>
    public string Peer { get; init; } = "";

    /// <summary>The socket it was sent to, or the variable of cpr-exec.</summary>
    public string? Uri { get; init; }

    /// <summary>The file with its description.</summary>
    public string? Path { get; init; }

    /// <summary>How many descriptors.</summary>
    public required int Entries { get; init; }

    /// <summary>Bytes of the state, or of the description.</summary>
    public required long Bytes { get; init; }

    /// <summary>Until the peer had taken over, or until everything was sent if that was not waited for.</summary>
    public required TimeSpan Duration { get; init; }

    /// <summary>True once the peer has closed the channel and lives on.</summary>
    public bool TakenOver { get; init; }
}
