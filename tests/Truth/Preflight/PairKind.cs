using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Truth.Preflight;

/// <summary>Two command lines that differ in one thing.</summary>
/// <param name="Kind">What differs.</param>
/// <param name="Source">The arguments of the source.</param>
/// <param name="Target">The arguments of the target, without -incoming.</param>
internal sealed record PairKind(string Kind, string Source, string Target)
{
    /// <summary>How the target waits; null for -incoming defer, empty for not at all.</summary>
    internal string? Incoming { get; init; }

    /// <summary>The migration that is meant.</summary>
    internal PreflightOptions Options { get; init; } = new();

    /// <summary>What is done to both before the pre-flight; with their monitors.</summary>
    internal Func<PairRun, Task>? Prepare { get; init; }

    /// <summary>The guest that the source runs; without one it is not started.</summary>
    internal PairGuest? Guest { get; init; }

    /// <summary>The difference the other way round.</summary>
    internal PairKind Reversed => this with { Source = Target, Target = Source };

    internal PairKind On(string program, string targetProgram) => this with { Program = program, TargetProgram = targetProgram };

    internal string Program { get; init; } = "qemu-system-x86_64";

    internal string TargetProgram { get; init; } = "qemu-system-x86_64";

    public override string ToString() => $"{Kind}: {Program} {Source}\n      -> {TargetProgram} {Target}";
}

/// <summary>A guest whose life after the migration is a part of the truth.</summary>
internal enum PairGuest
{
    /// <summary>Counts in its memory.</summary>
    Counting,

    /// <summary>The same, with an instruction (POPCNT) that not every CPU has.</summary>
    Popcnt,

    /// <summary>QEMU's own firmware, which drives the first disk.</summary>
    Firmware,
}

/// <summary>What a real migration of a pair did, beside what was said before.</summary>
/// <param name="Pair">The pair.</param>
/// <param name="Failure">Null if it succeeded; else why it did not.</param>
/// <param name="Report">The pre-flight.</param>
internal sealed record PairResult(PairKind Pair, string? Failure, QemuMigrationReport Report)
{
    internal bool Loads => Failure is null;

    internal bool SaysBlocker => Report.Blockers > 0;

    internal IEnumerable<QemuMigrationCheck> With(QemuCheckStatus status) => Report.Checks.Where(check => check.Status == status);
}
