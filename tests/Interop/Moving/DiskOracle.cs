using System.Buffers.Binary;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests.Moving;

/// <summary>What the guest wrote at one host.</summary>
/// <param name="Counter">How far it had counted.</param>
/// <param name="Arrival">How far it had counted when it came to this host.</param>
/// <param name="Arrivals">How often it has changed its host.</param>
internal readonly record struct DiskRecord(uint Counter, uint Arrival, uint Arrivals);

/// <summary>
/// Tells from the disk that both hosts share whether one guest wrote at a time. The guest counts in its memory, so that what it wrote
/// at the source before it came to the target is smaller than what it writes there. A source that runs after the target has
/// begun counts beyond that.
/// </summary>
/// <param name="path">The image.</param>
/// <param name="keepsMemory">False where QEMU itself loses changes of the guest's memory, so that the two counters cannot be compared.</param>
internal sealed class DiskOracle(string path, bool keepsMemory)
{
    private const int SectorBytes = 512;

    internal string Path => path;

    /// <summary>Makes the image.</summary>
    internal static DiskOracle Create(string path, bool keepsMemory)
    {
        using var image = File.Create(path);
        image.SetLength(1 << 20);
        return new DiskOracle(path, keepsMemory);
    }

    internal DiskRecord Source => Read(0);

    internal DiskRecord Target => Read(1);

    /// <summary>Waits until the guest counts at one side, and makes sure that it does nothing at the other and never did at both.</summary>
    internal void AssertRunsOnlyAt(VMRunsAt side)
    {
        AssertCountsOnlyAt(side);
        AssertOneWriter();
    }

    /// <summary>The same without a look at the past.</summary>
    internal void AssertCountsOnlyAt(VMRunsAt side)
    {
        var (here, there) = side == VMRunsAt.Source ? (0, 1) : (1, 0);
        uint still = 0;
        for (int look = 0; look < 2; look++)
        {
            // The write that a switch interrupted is finished at the other side: the first look is for that.
            still = Read(there).Counter;
            uint from = Read(here).Counter;
            Waiting.Until(() => Read(here).Counter >= from + 3, $"the guest counts at the {side}");
        }

        Assert.Equal(still, Read(there).Counter);
    }

    /// <summary>Makes sure that the two never wrote in one epoch.</summary>
    internal void AssertOneWriter() => Assert.True(HadOneWriter, $"Both sides wrote: source {Source}, target {Target}");

    internal bool HadOneWriter => !keepsMemory || Target.Arrivals == 0 || Source.Counter < Target.Arrival || Source.Arrivals > Target.Arrivals;

    private DiskRecord Read(int sector)
    {
        using var image = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        image.Position = sector * SectorBytes;
        Span<byte> record = stackalloc byte[16];
        image.ReadExactly(record);
        return new DiskRecord(BinaryPrimitives.ReadUInt32LittleEndian(record), BinaryPrimitives.ReadUInt32LittleEndian(record[4..]), BinaryPrimitives.ReadUInt32LittleEndian(record[12..]));
    }
}
