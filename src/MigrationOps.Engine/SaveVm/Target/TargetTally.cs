using System.Diagnostics;

namespace MigrationOps.Engine.SaveVm;

/// <summary>What a target has received so far, over all its connections, and how it ended.</summary>
internal sealed class TargetTally
{
    private readonly long _start = Stopwatch.GetTimestamp();
    private IncomingStream? _input;
    private long _bytesBefore;

    internal DateTimeOffset StartedAt { get; } = DateTimeOffset.UtcNow;

    /// <summary>From the start to the end, once that has come.</summary>
    internal TimeSpan Duration { get; private set; }

    /// <summary>Bytes of the main stream.</summary>
    internal long Bytes => _bytesBefore + (_input?.Offset ?? 0);

    /// <summary>What the stream calls the machine.</summary>
    internal string MachineType { get; set; } = "";

    /// <summary>True once the source was told that everything was loaded, in a migration that stayed in pre-copy.</summary>
    internal bool SourceWasTold { get; set; }

    /// <summary>What went wrong without being a failure.</summary>
    internal List<string> Warnings { get; } = [];

    /// <summary>A connection is there, after the one before was lost.</summary>
    internal void AddConnection(IncomingStream input)
    {
        _bytesBefore = Bytes;
        _input = input;
    }

    /// <summary>The migration has ended.</summary>
    internal void End() => Duration = Stopwatch.GetElapsedTime(_start);
}
