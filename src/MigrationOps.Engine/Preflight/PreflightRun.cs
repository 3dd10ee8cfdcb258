using System.Diagnostics;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>Gathers the facts of a pre-flight and has them judged.</summary>
internal static class PreflightRun
{
    /// <summary>Against a QEMU that waits.</summary>
    /// <param name="source">The monitor of the VM.</param>
    /// <param name="connectTarget">Connects to the monitor of the target; its failure is a finding.</param>
    /// <param name="host">What is known of the target's host.</param>
    /// <param name="options">The migration that is meant.</param>
    /// <param name="cancellationToken">Ends it.</param>
    internal static async Task<QemuMigrationReport> TestAsync(QmpMonitor source, Func<Task<QmpMonitor>> connectTarget, QemuHost? host, PreflightOptions options, CancellationToken cancellationToken)
    {
        var (takenAt, clock) = (DateTimeOffset.UtcNow.UtcDateTime, Stopwatch.StartNew());
        var reading = FactReader.ReadAsync(source, cancellationToken);
        QemuFacts? target = null;
        QmpMonitor? targetMonitor = null;
        MigrationOpsException? failure = null;
        try
        {
            targetMonitor = await connectTarget().ConfigureAwait(false);
            target = await FactReader.ReadAsync(targetMonitor, cancellationToken).ConfigureAwait(false);
        }
        catch (MigrationOpsException e)
        {
            failure = e;
        }

        var read = await reading.ConfigureAwait(false);
        if (target is not null && CpuChecks.HasOtherFeatures(read, target))
        {
            read = await FactReader.WithCpuFlagsAsync(source, read, cancellationToken).ConfigureAwait(false);
            target = await FactReader.WithCpuFlagsAsync(targetMonitor!, target, cancellationToken).ConfigureAwait(false);
        }

        var facts = new PreflightFacts
        {
            Source = read,
            Target = target,
            TargetFailure = failure,
            Host = host,
            SourceHost = read.Process is null ? null : HostFacts.Here(),
            TargetHost = host is not null ? HostFacts.Of(host) : target?.Process is null ? null : HostFacts.Here(),
            SourceFiles = FileFacts.Of(read.Process, DiskFacts.Of(read).Select(disk => disk.File)),
            TargetFiles = target is null ? new Dictionary<string, FileFacts>() : FileFacts.Of(target.Process, DiskFacts.Of(target).Select(disk => disk.File)),
            Layouts = await LayoutReader.ReadAsync(read.Process, target?.Process, cancellationToken).ConfigureAwait(false),
            Transport = TransportFacts.Read(options),
            Options = options,
        };
        return PreflightTest.Assess(facts, takenAt, clock.Elapsed);
    }

    /// <summary>Against a host on which no QEMU waits yet.</summary>
    internal static async Task<QemuMigrationReport> TestAsync(QmpMonitor source, QemuHost host, PreflightOptions options, CancellationToken cancellationToken)
    {
        var (takenAt, clock) = (DateTimeOffset.UtcNow.UtcDateTime, Stopwatch.StartNew());
        var read = await FactReader.ReadAsync(source, cancellationToken).ConfigureAwait(false);
        var facts = new PreflightFacts
        {
            Source = read,
            Host = host,
            SourceHost = read.Process is null ? null : HostFacts.Here(),
            TargetHost = HostFacts.Of(host),
            Transport = TransportFacts.Read(options),
            Options = options,
        };
        return PreflightTest.Assess(facts, takenAt, clock.Elapsed);
    }
}
