namespace MigrationOps.Benchmarks;

/// <summary>A whole transfer, measured beside a reference in the same run.</summary>
internal abstract class TransferBenchmark
{
    /// <summary>All of them, in the order in which they run.</summary>
    internal static IReadOnlyList<TransferBenchmark> All { get; } =
    [
        new VhostSaveBenchmark(),
        new VhostMemoryBenchmark(),
        new VfioReceiveBenchmark(),
        new QemuReceiveBenchmark(),
        new RelayBenchmark(),
        new StreamOverviewBenchmark(),
        new CprBenchmark(),
        new SmallSectionBenchmark(),
        new TcpMigrationBenchmark(),
        new MonitorBenchmark(),
        new PreflightBenchmark(),
        new ImportBenchmark(),
    ];

    /// <summary>What the command line calls it.</summary>
    internal abstract string Name { get; }

    /// <summary>One line about what is measured.</summary>
    internal abstract string Description { get; }

    internal abstract void Run(BenchmarkReport report);
}
