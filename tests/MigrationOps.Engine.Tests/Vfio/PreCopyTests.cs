using System.Buffers.Binary;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>A device with PRE_COPY is saved while it runs, and only the rest after it was stopped.</summary>
public sealed class PreCopyTests : IDisposable
{
    private const VfioMigrationFlags PreCopy = VfioMigrationFlags.StopCopy | VfioMigrationFlags.PreCopy;
    private const int Block = 1024 * 1024;

    private readonly TestFolder _folder = new();
    private readonly TransferScope _scope = new(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void The_marker_stream_has_the_sections_of_a_source_with_switchover_ack()
    {
        var driver = new FakeVfioDriver(PreCopy | VfioMigrationFlags.P2P, Bytes(100))
        {
            Initial = Bytes(Block + 5),
            Dirtied = [Bytes(2 * Block), Bytes(30)],
        };
        var result = Save(driver, VfioStateFormat.Markers);
        Assert.Equal(
            $"setup end | {Block} end | 5 init | {Block} end | {Block} end | 130 end | config end",
            Describe(File.ReadAllBytes(result.Path!)));
        Assert.Equal(3 * Block + 5, result.PrecopyBytes);
        Assert.Equal(3 * Block + 5 + 130, result.Bytes);
        Assert.Equal([VfioState.PreCopy, VfioState.PreCopyP2P, VfioState.StopCopy, VfioState.Stop], driver.Entered);
    }

    [Fact]
    public void A_device_without_initial_data_says_so_at_once()
    {
        var driver = new FakeVfioDriver(PreCopy, Bytes(10)) { Initial = [] };
        Assert.Equal("setup end | init | 10 end | config end", Describe(File.ReadAllBytes(Save(driver, VfioStateFormat.Markers).Path!)));
    }

    [Fact]
    public void A_device_that_changes_as_fast_as_it_is_read_is_stopped_all_the_same()
    {
        var driver = new FakeVfioDriver(PreCopy, Bytes(10)) { Initial = Bytes(3 * Block), Dirtied = [.. Enumerable.Repeat(Bytes(2 * Block), 50)] };
        var result = Save(driver, VfioStateFormat.Markers);
        Assert.Equal(103 * Block + 10, result.Bytes);
        Assert.InRange(result.PrecopyBytes, 6 * Block, 8 * Block);
    }

    [Theory]
    [InlineData(VfioStateFormat.StateFile)]
    [InlineData(VfioStateFormat.Markers)]
    internal void What_was_saved_while_the_device_ran_is_restored_in_the_same_order(VfioStateFormat format)
    {
        var driver = new FakeVfioDriver(PreCopy, Bytes(100)) { Initial = Bytes(Block + 5), Dirtied = [Bytes(3 * Block), Bytes(30)] };
        var saved = Save(driver, format);
        var taking = new FakeVfioDriver(PreCopy);
        using var device = new VfioDevice(taking);
        var restored = VfioStateStore.Restore(device, saved.Path!, format, VfioState.Running, _scope);
        Assert.Equal([.. driver.Initial!, .. driver.Dirtied.SelectMany(d => d), .. driver.State], taking.State);
        Assert.Equal(saved.Sha256, restored.Sha256);
        Assert.NotEqual(0, saved.PrecopyBytes);
    }

    [Fact]
    public void A_device_that_does_not_run_is_not_taken_into_pre_copy()
    {
        var driver = new FakeVfioDriver(PreCopy, Bytes(10)) { Initial = Bytes(20), Now = VfioState.Stop };
        var result = Save(driver, VfioStateFormat.Markers);
        Assert.Equal("setup end | 30 end | config end", Describe(File.ReadAllBytes(result.Path!)));
        Assert.Equal(0, result.PrecopyBytes);
    }

    [Fact]
    public void A_failure_in_pre_copy_leaves_the_device_running_and_no_file()
    {
        var driver = new FakeVfioDriver(PreCopy, Bytes(10)) { Initial = Bytes(20), ReadFails = (VfioState.PreCopy, 5) };
        var failure = Assert.Throws<VfioException>(() => Save(driver, VfioStateFormat.StateFile));
        Assert.Equal(VfioError.DataTransferFailed, failure.Reason);
        Assert.Contains("Input/output error (errno 5)", failure.Message);
        Assert.Equal(VfioState.Running, driver.Now);
        Assert.Empty(Directory.GetFileSystemEntries(_folder.Path));
    }

    [Fact]
    public void A_driver_that_has_nothing_though_it_announced_something_ends_the_initial_part()
    {
        var driver = new FakeVfioDriver(PreCopy, Bytes(10)) { Initial = Bytes(20), ReadFails = (VfioState.PreCopy, 42) };
        Assert.Equal("setup end | init | 30 end | config end",
            Describe(File.ReadAllBytes(Save(driver, VfioStateFormat.Markers).Path!)));
    }

    private VfioStateTransfer Save(FakeVfioDriver driver, VfioStateFormat format)
    {
        using var device = new VfioDevice(driver);
        return VfioStateStore.Save(device, _folder.File("state"), null, format, _scope);
    }

    private static byte[] Bytes(int length)
    {
        byte[] bytes = new byte[length];
        new Random(length).NextBytes(bytes);
        return bytes;
    }

    // The sizes of data blocks and the marks, a bar after each section.
    private static string Describe(byte[] stream)
    {
        var words = new List<string>();
        for (int at = 0; at < stream.Length; at += 8)
        {
            switch ((VfioMarker)BinaryPrimitives.ReadUInt64BigEndian(stream.AsSpan(at)))
            {
                case VfioMarker.SetupState:
                    words.Add("setup");
                    break;
                case VfioMarker.ConfigState:
                    words.Add("config");
                    break;
                case VfioMarker.DataState:
                    long size = BinaryPrimitives.ReadInt64BigEndian(stream.AsSpan(at + 8));
                    words.Add($"{size}");
                    at += 8 + (int)size;
                    break;
                case var end:
                    Assert.Contains(end, new[] { VfioMarker.EndOfState, VfioMarker.InitDataSent });
                    words.Add(end == VfioMarker.EndOfState ? "end |" : "init |");
                    break;
            }
        }

        return string.Join(' ', words)[..^2];
    }
}
