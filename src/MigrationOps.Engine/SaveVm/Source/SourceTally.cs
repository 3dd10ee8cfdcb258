using System.Diagnostics;

namespace MigrationOps.Engine.SaveVm;

/// <summary>What a migration has sent so far, over all its connections.</summary>
internal sealed class SourceTally(int pageSize) : IDisposable
{
    private readonly HashSet<SaveVmEntry> _sent = [];
    private readonly DescriptionWriter _description = new(pageSize);
    private readonly long _start = Stopwatch.GetTimestamp();
    private OutgoingStream? _output;
    private long _bytesBefore;

    internal DateTimeOffset StartedAt { get; } = DateTimeOffset.UtcNow;

    internal TimeSpan Elapsed => Stopwatch.GetElapsedTime(_start);

    /// <summary>From the start to the end, once that has come.</summary>
    internal TimeSpan Duration { get; private set; }

    /// <summary>Bytes of the main stream.</summary>
    internal long Bytes => _bytesBefore + (_output?.Position ?? 0);

    /// <summary>How many sections were written.</summary>
    internal long Sections { get; private set; }

    /// <summary>The devices that had one.</summary>
    internal string[] Devices => [.. _sent.Select(e => e.ToString())];

    /// <summary>Rounds that have ended.</summary>
    internal int Rounds { get; set; }

    /// <summary>How often it was resumed.</summary>
    internal int Recoveries { get; set; }

    /// <summary>The parts of the downtime, once it is over.</summary>
    internal MigrationDowntime? Downtime { get; set; }

    /// <summary>A connection is there, after the one before was lost.</summary>
    internal void AddConnection(OutgoingStream output)
    {
        _bytesBefore = Bytes;
        _output = output;
    }

    /// <summary>A section was written.</summary>
    internal void AddSection(SaveVmEntry entry)
    {
        Sections++;
        _sent.Add(entry);
    }

    /// <summary>Describes a FULL section.</summary>
    internal void Describe(SaveVmEntry entry, long length) => _description.Add(entry, length);

    /// <summary>Ends the description of the FULL sections, which follows the end mark.</summary>
    internal ReadOnlySpan<byte> EndDescription() => _description.Element();

    /// <summary>The migration has ended.</summary>
    internal void End() => Duration = Elapsed;

    /// <inheritdoc/>
    public void Dispose() => _description.Dispose();
}
