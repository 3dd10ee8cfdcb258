using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>Every operation begins from every state that a process which ended may have left a device in, and says what it leaves.</summary>
public sealed class AnyStateTests : IDisposable
{
    private const VfioMigrationFlags All = VfioMigrationFlags.StopCopy | VfioMigrationFlags.P2P | VfioMigrationFlags.PreCopy;

    private readonly TestFolder _folder = new();
    private readonly TransferScope _scope = new(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
    private readonly List<string> _notices = [];

    private static byte[] State { get; } = [.. Enumerable.Range(0, 300_000).Select(i => (byte)(i * 31 >> 3))];

    // A device in one of these holds no whole state.
    private static readonly VfioState[] Lost = [VfioState.Error, VfioState.Resuming];

    public static IEnumerable<object[]> EveryState => Rows(Enum.GetValues<VfioState>());

    public static IEnumerable<object[]> LostStates => Rows(Lost);

    public static IEnumerable<object[]> WholeStates => Rows(Enum.GetValues<VfioState>().Except(Lost));

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [MemberData(nameof(WholeStates))]
    internal void A_save_takes_the_whole_state_from_wherever_the_device_was_left(VfioState found)
    {
        using var device = Open(new FakeVfioDriver(All, State) { Now = found });
        var saved = VfioStateStore.Save(device, _folder.File("s"), null, VfioStateFormat.StateFile, _scope);
        Assert.Equal((State.Length, "STOP"), ((int)saved.Bytes, saved.DeviceState));
        Assert.Equal(VfioState.Stop, device.State);
        Assert.Empty(_notices);
    }

    [Theory]
    [MemberData(nameof(LostStates))]
    internal void A_save_of_a_device_that_holds_no_whole_state_is_refused_and_changes_nothing(VfioState found)
    {
        var driver = new FakeVfioDriver(All, State) { Now = found };
        using var device = Open(driver);
        var failure = Assert.Throws<VfioException>(() => VfioStateStore.Save(device, _folder.File("s"), null, VfioStateFormat.StateFile, _scope));
        Assert.Equal(found == VfioState.Error ? VfioError.DeviceInError : VfioError.LoadInterrupted, failure.Reason);
        Assert.Contains("eset the device", failure.RecommendedAction);
        Assert.Empty(driver.Entered);
        Assert.Equal(0, driver.Resets);
        Assert.False(File.Exists(_folder.File("s")));
    }

    [Theory]
    [MemberData(nameof(EveryState))]
    internal void A_load_begins_from_every_state_and_resets_a_device_that_holds_no_whole_state(VfioState found)
    {
        using (var source = Open(new FakeVfioDriver(All, State)))
        {
            VfioStateStore.Save(source, _folder.File("s"), null, VfioStateFormat.StateFile, _scope);
        }

        var driver = new FakeVfioDriver(All, [1]) { Now = found };
        using var device = Open(driver);
        var loaded = VfioStateStore.Restore(device, _folder.File("s"), VfioStateFormat.StateFile, VfioState.Running, _scope);
        Assert.Equal(State, driver.State);
        Assert.Equal((VfioState.Running, "RUNNING"), (device.State, loaded.DeviceState));
        bool wasLost = Lost.Contains(found);
        Assert.Equal(wasLost ? 1 : 0, driver.Resets);
        Assert.Equal(wasLost, loaded.Warnings.Any(w => w.Contains($"was in {VfioDevice.Name(found)} and was reset", StringComparison.Ordinal)));
    }

    [Theory]
    [MemberData(nameof(EveryState))]
    internal void A_device_is_brought_back_to_RUNNING_from_every_state(VfioState found)
    {
        var driver = new FakeVfioDriver(All, State) { Now = found };
        using var device = Open(driver);
        if (Lost.Contains(found))
        {
            Assert.ThrowsAny<VfioException>(() => device.Resume(reset: false));
            Assert.Equal((found, 0), (driver.Now, driver.Resets));
            Assert.Equal((VfioDevice.Name(found), "RUNNING", true), Change(device.Resume(reset: true)));
            Assert.Equal(1, driver.Resets);
            return;
        }

        Assert.Equal((VfioDevice.Name(found), "RUNNING", false), Change(device.Resume(reset: false)));
        Assert.Equal((State, 0), (driver.State, driver.Resets));

        static (string, string, bool) Change(VfioStateChange c) => (c.Before, c.After, c.WasReset);
    }

    [Theory]
    [InlineData(VfioState.Running, VfioStateFormat.StateFile)]
    [InlineData(VfioState.Running, VfioStateFormat.Markers)]
    [InlineData(VfioState.PreCopyP2P, VfioStateFormat.StateFile)]
    [InlineData(VfioState.StopCopy, VfioStateFormat.StateFile)]
    [InlineData(VfioState.Stop, VfioStateFormat.Markers)]
    internal void A_save_onto_a_full_disk_takes_the_device_back_and_says_so(VfioState found, VfioStateFormat format)
    {
        using var device = Open(new FakeVfioDriver(All, State) { Now = found });
        var rest = found switch { VfioState.PreCopyP2P => VfioState.RunningP2P, VfioState.StopCopy => VfioState.Stop, _ => found };
        using var full = new FullDisk();
        using var source = new DeviceSource(device, "vfio", _scope);
        Assert.Throws<IOException>(() => source.WriteTo(full));
        Assert.Equal(rest, device.State);
        Assert.Contains(_notices, n => n.Contains($"is back in {VfioDevice.Name(rest)}", StringComparison.Ordinal));
        Assert.Null(device.Data);

        // What comes next finds everything as it was.
        Assert.Equal(State.Length, VfioStateStore.Save(device, _folder.File("s"), null, format, _scope).Bytes);
    }

    [Fact]
    public void A_state_file_whose_header_finds_no_space_leaves_nothing_behind()
    {
        using var cancelled = new CancellationTokenSource();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), cancelled.Token);
        cancelled.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => new StateFileSink(_folder.File("s"), "vfio", 0, scope));
        Assert.Empty(_folder.Entries);
    }

    [Fact]
    public void A_device_that_does_not_go_back_after_a_failure_is_named_with_the_state_that_it_is_in()
    {
        var driver = new FakeVfioDriver(All, State) { Refuses = VfioState.RunningP2P, AfterRefusal = VfioState.Stop, Now = VfioState.StopCopy };
        using var device = Open(driver);
        driver.Now = VfioState.Running;
        driver.Refuses = null;
        using var full = new FullDisk { Failing = () => driver.Refuses = VfioState.RunningP2P };
        using var source = new DeviceSource(device, "vfio", _scope);
        Assert.Throws<IOException>(() => source.WriteTo(full));
        string notice = Assert.Single(_notices);
        Assert.Contains("did not go back to RUNNING", notice);
        Assert.Contains("it is in STOP", notice);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_load_that_fails_leaves_a_reset_device_or_says_that_the_reset_failed(bool resetFails)
    {
        var driver = new FakeVfioDriver(All, State) { ResetFails = resetFails };
        using var device = Open(driver);
        using (var sink = new DeviceSink(device, VfioState.Running, _scope))
        {
            sink.Write([1, 2, 3]);
        }

        Assert.Equal(resetFails ? VfioState.Resuming : VfioState.Running, driver.Now);
        Assert.Contains(resetFails ? "holds half a state" : "was reset", Assert.Single(_notices));
    }

    [Fact]
    public void A_device_that_cannot_migrate_is_named_so_whatever_is_asked_of_it()
    {
        using var device = Open(new FakeVfioDriver(0));
        Action[] all = [() => VfioStateStore.Save(device, _folder.File("s"), null, VfioStateFormat.StateFile, _scope),
            () => device.Resume(reset: false), () => device.Resume(reset: true), () => _ = device.IsLost];
        Assert.All(all, act => Assert.Equal(VfioError.NotMigratable, Assert.Throws<VfioException>(act).Reason));
    }

    private static IEnumerable<object[]> Rows(IEnumerable<VfioState> states) => states.Select(state => new object[] { state });

    private VfioDevice Open(FakeVfioDriver driver) => new(driver) { Notice = _notices.Add };

    // The first write finds no space.
    private sealed class FullDisk : MemoryStream
    {
        internal Action? Failing { get; init; }

        public override void Write(ReadOnlySpan<byte> buffer) => Fail();

        public override void Write(byte[] buffer, int offset, int count) => Fail();

        private void Fail()
        {
            Failing?.Invoke();
            throw new IOException("No space left on device");
        }
    }
}
