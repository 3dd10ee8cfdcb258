using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Benchmarks;

/// <summary>A migration stream of 100,000 sections of four bytes, saved and loaded.</summary>
internal sealed class SmallSectionBenchmark : TransferBenchmark
{
    private const int Sections = 100_000;

    internal override string Name => "savevm-sections";

    internal override string Description => "a stream of 100,000 small sections through a file on tmpfs";

    internal override void Run(BenchmarkReport report)
    {
        using var folder = new TmpfsFolder();
        string path = folder.File("stream");
        Measure(path, 1000);
        long idle = GC.GetTotalMemory(forceFullCollection: true);
        var rounds = Enumerable.Range(0, 5).Select(_ => Measure(path, Sections)).ToArray();
        report.Figure("saved", BenchmarkReport.Median(rounds.Select(r => r.Saved.TotalMicroseconds / Sections)), "us per section", 10);
        report.Figure("loaded", BenchmarkReport.Median(rounds.Select(r => r.Loaded.TotalMicroseconds / Sections)), "us per section", 10);
        report.Figure("memory kept afterwards", (GC.GetTotalMemory(forceFullCollection: true) - idle) / 1024.0, "KiB", 256);
    }

    private static (TimeSpan Saved, TimeSpan Loaded) Measure(string path, int sections)
    {
        using var scope = new TransferScope(TransferScope.DefaultTimeout);
        var registry = new SaveVmRegistry();
        registry.Register("counter", 0, 1, new Counter(sections));
        var saved = BenchmarkReport.Time(() =>
        {
            using var file = File.Create(path);
            new SaveVmSource(registry, new SaveVmSourceOptions { DowntimeLimit = TimeSpan.Zero }).Run(_ => file, scope);
        });
        var loaded = BenchmarkReport.Time(() =>
        {
            using var file = File.OpenRead(path);
            new SaveVmTarget(registry, new SaveVmTargetOptions()).Run(_ => file, scope);
        });
        return (saved, loaded);
    }

    private sealed class Counter(int sections) : ISaveVmHandlers
    {
        private int _left = sections;

        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32(0);

        public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
        {
            stream.WriteUInt32((uint)_left);
            return --_left == 0;
        }

        public PendingBytes StatePendingEstimate(SaveVmContext context) => new(_left * 4L);

        public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32(0);

        public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId) => stream.ReadUInt32();
    }
}
