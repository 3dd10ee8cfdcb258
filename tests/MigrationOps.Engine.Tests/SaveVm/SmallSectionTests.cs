using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

[Collection(Alone.Name)]
public class SmallSectionTests
{
    private const int Sections = 100_000;

    [Fact]
    public void A_hundred_thousand_small_sections_cost_no_memory_that_stays()
    {
        using var folder = new TestFolder();

        // The first run pays for compiling.
        Run(folder["stream"], 1000);
        long before = GC.GetTotalMemory(forceFullCollection: true);
        Run(folder["stream"], Sections);
        Assert.InRange(GC.GetTotalMemory(forceFullCollection: true) - before, long.MinValue, 256 << 10);
    }

    private static void Run(string path, int sections)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(30));
        var device = new Counter(sections);
        var registry = Migrations.Registry(("counter", device));
        using (var file = File.Create(path))
        {
            var sent = new SaveVmSource(registry, new SaveVmSourceOptions { DowntimeLimit = TimeSpan.Zero }).Run(_ => file, scope);
            Assert.Equal(sections + 2, sent.Sections);
        }

        using (var file = File.OpenRead(path))
        {
            new SaveVmTarget(registry, new SaveVmTargetOptions()).Run(_ => file, scope);
        }

        Assert.Equal(sections + 2, device.Loaded);
    }

    private sealed class Counter(int sections) : ISaveVmHandlers
    {
        private int _left = sections;

        internal int Loaded { get; private set; }

        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32(0);

        public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
        {
            stream.WriteUInt32((uint)_left);
            return --_left == 0;
        }

        public PendingBytes StatePendingEstimate(SaveVmContext context) => new(_left * 4L);

        public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32(0);

        public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
        {
            stream.ReadUInt32();
            Loaded++;
        }
    }
}
