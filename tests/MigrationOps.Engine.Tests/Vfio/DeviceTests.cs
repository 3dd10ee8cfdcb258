using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vfio;

public sealed class DeviceTests : IDisposable
{
    private const VfioMigrationFlags Stop = VfioMigrationFlags.StopCopy;
    private const VfioMigrationFlags StopP2P = Stop | VfioMigrationFlags.P2P;
    private const VfioMigrationFlags StopPre = Stop | VfioMigrationFlags.PreCopy;
    private const VfioMigrationFlags All = StopP2P | VfioMigrationFlags.PreCopy;

    private readonly TestFolder _folder = new();
    private readonly TransferScope _scope = new(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);

    private static byte[] State { get; } = [.. Enumerable.Range(0, 3_000_000).Select(i => (byte)(i * 31 >> 3))];

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData(Stop)]
    [InlineData(StopP2P)]
    [InlineData(StopPre)]
    [InlineData(All)]
    internal void Every_pair_of_states_is_joined_by_the_shortest_way_of_legal_arcs(VfioMigrationFlags flags)
    {
        VfioState[] states = [.. Enum.GetValues<VfioState>().Where(s => VfioStateMachine.Has(s, flags))];
        foreach (var from in states)
        {
            foreach (var to in states)
            {
                using var device = new VfioDevice(new FakeVfioDriver(flags) { Now = from });
                var path = VfioStateMachine.ShortestPath(from, to, flags);
                Assert.NotNull(path);
                Assert.Equal(Distance(from, to, flags, states), path.Count);
                if (VfioStateMachine.MovesData(from))
                {
                    // Entered without a descriptor: a real device has been opened by another process then.
                    continue;
                }

                device.Enter(to);
                Assert.Equal(to, device.State);
                Assert.Equal(VfioStateMachine.MovesData(to), device.Data is { IsClosed: false });
            }
        }
    }

    [Theory]
    [InlineData(Stop, VfioState.Running, VfioState.StopCopy, "Stop StopCopy")]
    [InlineData(All, VfioState.Running, VfioState.StopCopy, "RunningP2P Stop StopCopy")]
    [InlineData(All, VfioState.PreCopy, VfioState.StopCopy, "PreCopyP2P StopCopy")]
    [InlineData(StopPre, VfioState.PreCopy, VfioState.StopCopy, "StopCopy")]
    [InlineData(All, VfioState.Resuming, VfioState.Running, "Stop RunningP2P Running")]
    [InlineData(All, VfioState.StopCopy, VfioState.PreCopy, "Stop RunningP2P Running PreCopy")]
    [InlineData(StopP2P, VfioState.Running, VfioState.Running, "")]
    internal void Known_ways_are_these(VfioMigrationFlags flags, VfioState from, VfioState to, string way)
        => Assert.Equal(way, string.Join(' ', VfioStateMachine.ShortestPath(from, to, flags)!));

    [Theory]
    [InlineData(Stop, VfioState.RunningP2P)]
    [InlineData(StopP2P, VfioState.PreCopy)]
    [InlineData(StopPre, VfioState.PreCopyP2P)]
    [InlineData(All, VfioState.Error)]
    internal void A_state_that_the_device_lacks_is_refused(VfioMigrationFlags flags, VfioState target)
    {
        using var device = new VfioDevice(new FakeVfioDriver(flags));
        Assert.Equal(VfioError.StateNotSupported, Assert.Throws<VfioException>(() => device.Enter(target)).Reason);
    }

    [Theory]
    [InlineData(VfioState.Stop)]
    [InlineData(VfioState.Error)]
    internal void A_failed_transition_drops_the_data_and_only_a_reset_leads_out_of_ERROR(VfioState left)
    {
        var driver = new FakeVfioDriver(Stop, State);
        using var device = new VfioDevice(driver);
        device.Enter(VfioState.StopCopy);
        var data = device.Data!;
        driver.Refuses = VfioState.Stop;
        driver.AfterRefusal = left;
        var failure = Assert.Throws<VfioException>(() => device.Enter(VfioState.Running));
        Assert.Equal(VfioError.TransitionFailed, failure.Reason);
        Assert.EndsWith($"Input/output error (errno 5); it is in {VfioDevice.Name(left)}.", failure.Message);
        Assert.Null(device.Data);
        Assert.True(data.IsClosed);
        driver.Refuses = null;
        if (left == VfioState.Error)
        {
            Assert.Equal(VfioError.DeviceInError, Assert.Throws<VfioException>(() => device.Enter(VfioState.Running)).Reason);
            device.Reset();
        }

        device.Enter(VfioState.Running);
        Assert.Equal(VfioState.Running, device.State);
    }

    [Fact]
    public void A_device_without_migration_says_so()
    {
        using var device = new VfioDevice(new FakeVfioDriver(0));
        Assert.Equal(VfioError.NotMigratable, Assert.Throws<VfioException>(() => device.Flags).Reason);
    }

    [Theory]
    [InlineData(VfioStateFormat.StateFile)]
    [InlineData(VfioStateFormat.Markers)]
    internal void What_was_saved_is_what_is_restored(VfioStateFormat format)
    {
        string path = _folder.File("state");
        using var saved = new VfioDevice(new FakeVfioDriver(All, State));
        var save = VfioStateStore.Save(saved, path, null, format, _scope);
        Assert.Equal(State.Length, save.Bytes);
        Assert.Equal("vfio0/vfio", save.IdStr);
        Assert.Equal(VfioState.Stop, saved.State);

        var driver = new FakeVfioDriver(All);
        using var restored = new VfioDevice(driver);
        var restore = VfioStateStore.Restore(restored, path, format, VfioState.Running, _scope);
        Assert.Equal(State, driver.State);
        Assert.Equal(save.Sha256, restore.Sha256);
        Assert.Equal(VfioState.Running, restored.State);
        Assert.Equal(0, driver.Resets);
    }

    [Theory]
    [InlineData(VfioStateFormat.StateFile, 100)]
    [InlineData(VfioStateFormat.StateFile, 2_999_999)]
    [InlineData(VfioStateFormat.Markers, 100)]
    [InlineData(VfioStateFormat.Markers, 2_999_999)]
    internal void A_file_that_was_cut_never_reaches_the_device(VfioStateFormat format, int length)
    {
        string path = _folder.File("state");
        using var saved = new VfioDevice(new FakeVfioDriver(All, State));
        VfioStateStore.Save(saved, path, null, format, _scope);
        File.WriteAllBytes(path, File.ReadAllBytes(path)[..length]);
        var driver = new FakeVfioDriver(All);
        using var restored = new VfioDevice(driver);
        Assert.ThrowsAny<MigrationOpsException>(() => VfioStateStore.Restore(restored, path, format, VfioState.Running, _scope));
        Assert.Empty(driver.Entered);
    }

    [Fact]
    public void A_device_that_refuses_the_state_is_reset_and_does_not_run_with_half_of_it()
    {
        string path = _folder.File("state");
        using var saved = new VfioDevice(new FakeVfioDriver(Stop, State));
        VfioStateStore.Save(saved, path, null, VfioStateFormat.StateFile, _scope);
        var driver = new FakeVfioDriver(Stop) { Refuses = VfioState.Stop };
        driver.Now = VfioState.Stop;
        using var restored = new VfioDevice(driver);
        Assert.Equal(VfioError.TransitionFailed, Assert.Throws<VfioException>(
            () => VfioStateStore.Restore(restored, path, VfioStateFormat.StateFile, VfioState.Running, _scope)).Reason);
        Assert.Equal(1, driver.Resets);
    }

    [Theory]
    [InlineData(VfioStateFormat.StateFile)]
    [InlineData(VfioStateFormat.Markers)]
    internal void A_state_of_another_model_never_reaches_the_device(VfioStateFormat format)
    {
        byte[] config = ConfigOfRealDevice();
        string path = WriteState(format, config);
        byte[] space = config[12..268];
        var same = new FakeVfioDriver(Stop) { ConfigSpace = space };
        using (var device = new VfioDevice(same))
        {
            var result = VfioStateStore.Restore(device, path, format, VfioState.Running, _scope);
            Assert.Equal(State, same.State);
            Assert.Contains("not loaded", Assert.Single(result.Warnings));
        }

        byte[] foreign = [.. space];
        foreign[2] ^= 1;
        var other = new FakeVfioDriver(Stop) { ConfigSpace = foreign };
        using var wrong = new VfioDevice(other);
        var failure = Assert.Throws<VfioException>(() => VfioStateStore.Restore(wrong, path, format, VfioState.Running, _scope));
        Assert.Equal(VfioError.WrongDevice, failure.Reason);
        Assert.Contains($"{PciIdentity.Parse(space)}", failure.Message);
        Assert.Empty(other.Entered);
    }

    [Fact]
    public void A_state_that_turns_out_to_be_of_another_model_while_it_comes_leaves_a_reset_device()
    {
        var driver = new FakeVfioDriver(Stop) { ConfigSpace = new byte[256] };
        using var device = new VfioDevice(driver);
        using (var sink = new DeviceSink(device, VfioState.Running, _scope))
        {
            sink.Write(State);
            Assert.Equal(VfioError.WrongDevice, Assert.Throws<VfioException>(() => sink.Complete(ConfigOfRealDevice())).Reason);
        }

        Assert.Equal(1, driver.Resets);
        Assert.Equal([VfioState.Stop, VfioState.Resuming], driver.Entered);
    }

    [Fact]
    public void What_a_device_is_comes_from_the_head_of_its_saved_configuration_space()
    {
        Assert.Equal("PCI device 4348:3253 (class 070002, revision 10, header type 0)", PciIdentity.ParseConfigState(ConfigOfRealDevice()).ToString());
        Assert.Null(PciIdentity.ParseConfigState(ConfigState.Empty()));
    }

    private static byte[] ConfigOfRealDevice() => new Capture(Capture.OneDevice).Packets("0000:00:04.0/vfio").Single(p => p.IsConfig).Data;

    private string WriteState(VfioStateFormat format, byte[] config)
    {
        string path = _folder.File("state");
        if (format == VfioStateFormat.Markers)
        {
            using var file = File.Create(path);
            var writer = new MarkerWriter(file);
            writer.WriteSetup();
            writer.WriteData(State);
            writer.Write(VfioMarker.EndOfState);
            writer.WriteConfig(config);
            return path;
        }

        using var sink = new StateFileSink(path, "0000:00:04.0/vfio", 0, _scope);
        sink.Write(State);
        sink.Complete(config);
        sink.Commit("test");
        return path;
    }

    // An oracle of its own: grows the set of what can be reached step by step, with the rule that a state in the middle of
    // the way has no data unless the data continues.
    private static int Distance(VfioState from, VfioState to, VfioMigrationFlags flags, VfioState[] states)
    {
        var reached = new HashSet<VfioState> { from };
        for (int steps = 0; ; steps++)
        {
            if (reached.Contains(to))
            {
                return steps;
            }

            VfioState[] next = [.. reached.SelectMany(s => states.Where(t => VfioStateMachine.IsArc(s, t, flags)
                && (s == from || !VfioStateMachine.MovesData(s)
                    || (s is VfioState.PreCopy or VfioState.PreCopyP2P && VfioStateMachine.MovesData(t) && t != VfioState.Resuming))))];
            Assert.True(next.Except(reached).Any(), $"{to} cannot be reached from {from}");
            reached.UnionWith(next);
        }
    }
}
