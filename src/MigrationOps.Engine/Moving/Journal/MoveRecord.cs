using System.Text.Json;
using System.Text.Json.Serialization;

namespace MigrationOps.Engine.Moving;

/// <summary>What a line of a journal says.</summary>
internal enum MoveRecordKind
{
    /// <summary>Who is to be moved where; the first line.</summary>
    Intent,

    /// <summary>The target has taken 'stop': it cannot start by itself.</summary>
    Armed,

    /// <summary>The target listens, and the source is told to migrate next.</summary>
    Started,

    /// <summary>The move has entered a phase.</summary>
    Phase,

    /// <summary>Something was done about a migration that does not converge.</summary>
    Action,

    /// <summary>The source said that the target has everything, and the target says the same: the source never continues by itself.</summary>
    Completed,

    /// <summary>From here on the VM is the target's: 'cont' is sent next.</summary>
    Commit,

    /// <summary>The target answered 'cont' with an error: it did not start.</summary>
    Refused,

    /// <summary>The target runs the VM, or has it paused as it was.</summary>
    Running,

    /// <summary>The VM is the source's again and the target must never start: the source's 'cont' is sent next.</summary>
    Abandoned,

    /// <summary>How it ended; the last line.</summary>
    Done,
}

/// <summary>One line of a journal.</summary>
internal sealed record MoveRecord
{
    private static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) },
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public required MoveRecordKind Record { get; init; }

    /// <summary>When it was written, in UTC.</summary>
    public DateTime At { get; init; } = DateTime.UtcNow;

    /// <summary>Of an intent: what is moved.</summary>
    public MoveIntent? Intent { get; init; }

    /// <summary>The phase that was entered.</summary>
    public MovePhase? Phase { get; init; }

    /// <summary>Where the VM runs, of the last line.</summary>
    public VMRunsAt? RunsAt { get; init; }

    /// <summary>What else there is to say.</summary>
    public string? Note { get; init; }

    /// <summary>The line, with its end.</summary>
    internal byte[] Encode() => [.. JsonSerializer.SerializeToUtf8Bytes(this, Options), (byte)'\n'];

    /// <summary>Reads a line.</summary>
    /// <returns>Null if it is no record.</returns>
    internal static MoveRecord? Parse(ReadOnlySpan<byte> line)
    {
        try
        {
            return JsonSerializer.Deserialize<MoveRecord>(line, Options);
        }
        catch (JsonException)
        {
            return null;
        }
    }
}

/// <summary>What a move is to do, as its first line has it.</summary>
internal sealed record MoveIntent
{
    /// <summary>The number of the move.</summary>
    public required Guid Move { get; init; }

    public string? VM { get; init; }

    public required QemuMigrationMode Mode { get; init; }

    /// <summary>The source; its process can be recognised later.</summary>
    public required MoveSide Source { get; init; }

    /// <summary>The target; null if it is a file.</summary>
    public MoveSide? Target { get; init; }

    /// <summary>True if the VM was paused: then it stays paused.</summary>
    public bool WasPaused { get; init; }

    /// <summary>True to let the source's process stay after the move.</summary>
    public bool KeepSource { get; init; }

    /// <summary>Who drives the move: process id.</summary>
    public int Controller { get; init; }
}
