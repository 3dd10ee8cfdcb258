using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.SaveVm;

public class CallOrderTests
{
    private readonly MigrationPair _pair = new();

    [Fact]
    public void Everything_happens_in_qemu_s_order()
    {
        var (live, loaded) = _pair.Device("live", ScriptedDevice.Live);
        var (whole, loadedWhole) = _pair.Device("whole", ScriptedDevice.Whole);
        _pair.Succeed();
        Assert.Equal(live.State, loaded.Loaded);
        Assert.Equal(whole.State, loadedWhole.Loaded);
        string[] source = [.. _pair.Log.Steps.Where(c => !c.Contains("Load", StringComparison.Ordinal) && !c.Contains("Switchover", StringComparison.Ordinal))];
        Assert.Equal(["live.SavePrepare", "whole.SavePrepare", "live.SaveSetup"], source[..3]);
        Assert.Equal(["stop", "live.SaveLiveCompletePrecopy", "whole.SaveState", "live.SaveCleanup", "whole.SaveCleanup"], source[^5..]);
        Assert.All(source[3..^5], c => Assert.Equal("live.SaveLiveIterate", c));
        Assert.NotEmpty(source[3..^5]);
        string[] target = [.. _pair.Log.Calls.Where(c => c.Contains("Load", StringComparison.Ordinal) || c.Contains("Switchover", StringComparison.Ordinal))];
        Assert.Equal(["live.LoadSetup", "whole.LoadSetup", "live.LoadState"], target[..3]);
        Assert.Equal(
            ["live.SwitchoverStart", "whole.SwitchoverStart", "live.LoadState", "whole.LoadState", "live.LoadCleanup", "whole.LoadCleanup"],
            target[^6..]);
    }

    [Fact]
    public void Prepare_may_refuse_before_a_byte_is_sent()
    {
        var (device, _) = _pair.Device("d", ScriptedDevice.Live);
        device.On(SaveVmHandler.SavePrepare, (_, _) => throw new InvalidOperationException("not today"));
        _pair.Run();
        Assert.Equal(SaveVmError.HandlerFailed, Assert.IsType<SaveVmException>(_pair.SourceFailure).Reason);
        Assert.Contains("not today", _pair.SourceFailure!.Message, StringComparison.Ordinal);
        Assert.Empty(_pair.Sent);
        Assert.Equal(1, _pair.Log.Count("d.SaveCleanup"));
        Assert.Equal(0, _pair.Log.Count("resume"));
    }

    [Fact]
    public void An_inactive_device_has_no_section_but_a_cleanup()
    {
        var (device, target) = _pair.Device("off", ScriptedDevice.Live | ScriptedDevice.Whole | SaveVmHandler.IsActive);
        (device.Active, target.Active) = (false, false);
        _pair.Succeed();
        Assert.Equal(["off.SavePrepare", "stop", "off.SaveCleanup"],
            _pair.Log.Steps.Where(c => !c.Contains("Load", StringComparison.Ordinal)).Where(c => !c.Contains("Switchover", StringComparison.Ordinal)));
        Assert.Equal(["off.LoadCleanup"], _pair.Log.Calls.Where(c => c.Contains("Load", StringComparison.Ordinal)));
        Assert.DoesNotContain(_pair.Log.Calls, c => c.Contains("Pending", StringComparison.Ordinal));
        Assert.Equal((0L, 0), (_pair.SourceResult!.Sections, _pair.SourceResult.Devices.Length));
    }

    [Fact]
    public void A_device_that_is_not_to_iterate_is_skipped_in_iteration_only()
    {
        var (device, target) = _pair.Device("d", ScriptedDevice.Live | SaveVmHandler.IsActiveIterate);
        device.ActiveIterate = false;
        _pair.Succeed();
        Assert.Equal(0, _pair.Log.Count("d.SaveLiveIterate"));
        Assert.Equal(1, _pair.Log.Count("d.SaveSetup"));
        Assert.Equal(device.State, target.Loaded);
    }

    [Fact]
    public void The_exact_number_is_asked_only_near_the_threshold()
    {
        long pending = 50_000;
        int exact = 0;
        var log = new CallLog();
        var device = new ScriptedDevice("d", log, ScriptedDevice.Live)
        {
            State = new byte[100],
            Piece = 0,
            Estimate = () => new PendingBytes(pending -= 10_000),
            Exact = () =>
            {
                exact++;
                Assert.Equal(0, pending);
                return default;
            },
        };
        _pair.Source.Register("d", -1, 1, device);
        _pair.Target.Register("d", -1, 1, new ScriptedDevice("d", log, ScriptedDevice.Live));
        _pair.SourceOptions = _pair.SourceOptions with { DowntimeLimit = TimeSpan.Zero };
        _pair.Succeed();
        Assert.Equal(1, exact);
    }

    [Fact]
    public void A_second_look_that_finds_more_goes_on_iterating()
    {
        int looks = 0;
        var device = new ScriptedDevice("d", _pair.Log, ScriptedDevice.Live)
        {
            Estimate = () => default,
            Exact = () => new PendingBytes(++looks < 3 ? long.MaxValue / 4 : 0),
        };
        _pair.Source.Register("d", -1, 1, device);
        _pair.Target.Register("d", -1, 1, new ScriptedDevice("d", _pair.Log, ScriptedDevice.Live));
        _pair.Succeed();
        Assert.Equal(3, looks);
        Assert.Equal(2, _pair.SourceResult!.Rounds);
    }

    [Fact]
    public void Handlers_of_postcopy_and_multifd_are_not_called_in_a_migration_without_them()
    {
        _pair.Device("d", ScriptedDevice.Live | SaveVmHandler.HasPostcopy | SaveVmHandler.SaveLiveCompletePostcopy
            | SaveVmHandler.SaveLiveCompletePrecopyThread | SaveVmHandler.LoadStateBuffer | SaveVmHandler.ResumePrepare);
        _pair.Succeed();
        Assert.Equal(1, _pair.Log.Count("d.SaveLiveCompletePrecopy"));
        Assert.DoesNotContain(_pair.Log.Calls, call => call.EndsWith("Postcopy", StringComparison.Ordinal)
            || call.EndsWith("Thread", StringComparison.Ordinal) || call.EndsWith("Buffer", StringComparison.Ordinal)
            || call.EndsWith("ResumePrepare", StringComparison.Ordinal));
    }

    [Fact]
    public void The_switchover_waits_for_every_device_that_needs_to_approve_it()
    {
        var (_, a) = _pair.Device("a", ScriptedDevice.Live | SaveVmHandler.SwitchoverAckNeeded);
        var (_, b) = _pair.Device("b", ScriptedDevice.Live | SaveVmHandler.SwitchoverAckNeeded);
        using var ready = new ManualResetEventSlim();
        SaveVmContext? late = null;
        a.On(SaveVmHandler.LoadState, (context, _) => context.ApproveSwitchover());
        b.On(SaveVmHandler.LoadState, (context, _) =>
        {
            if (Interlocked.CompareExchange(ref late, context, null) is null)
            {
                ready.Set();
            }
        });
        WithAck();
        _pair.SourceOptions = _pair.SourceOptions with { StopDevice = () => _pair.Log.Add("stop") };
        var approver = Waiting.OnThread(() =>
        {
            ready.Wait();
            _pair.Log.Add("approve");
            late!.ApproveSwitchover();
        });
        _pair.Succeed();
        approver.Join("the approver");
        string[] calls = _pair.Log.Calls;
        Assert.True(Array.IndexOf(calls, "approve") < Array.IndexOf(calls, "stop"));
        Assert.True(_pair.SourceResult!.SwitchoverAcknowledged && _pair.TargetResult!.SwitchoverAcknowledged);
    }

    [Fact]
    public void Without_a_device_that_needs_it_the_switchover_is_approved_at_once()
    {
        _pair.Device("a", ScriptedDevice.Live);
        WithAck();
        _pair.Succeed();
        Assert.True(_pair.TargetResult!.SwitchoverAcknowledged);
    }

    [Fact]
    public void A_switchover_without_approval_fails_by_name_and_the_device_was_never_stopped()
    {
        _pair.Device("a", ScriptedDevice.Live | SaveVmHandler.SwitchoverAckNeeded);
        WithAck();
        _pair.SourceTimeout = TimeSpan.FromSeconds(1);
        _pair.Run();
        Assert.Equal(SaveVmError.SwitchoverAckTimeout, Assert.IsType<SaveVmException>(_pair.SourceFailure).Reason);
        Assert.Equal((0, 0), (_pair.Log.Count("stop"), _pair.Log.Count("resume")));
        Assert.Equal((1, 1), (_pair.Log.Count("a.SaveCleanup"), _pair.Log.Count("a.LoadCleanup")));
    }

    [Fact]
    public void A_device_is_only_asked_for_approval_in_a_migration_with_it()
    {
        _pair.Device("a", ScriptedDevice.Live | SaveVmHandler.SwitchoverAckNeeded);
        _pair.Succeed();
        Assert.Equal(0, _pair.Log.Count("a.SwitchoverAckNeeded"));
    }

    [Theory]
    [InlineData("pc-q35-11.1", SwitchoverAckCount.ByMachineType)]
    [InlineData("none", SwitchoverAckCount.PerDevice)]
    public void Where_acknowledgements_are_counted_the_switchover_waits_for_each_that_a_device_has_asked_for(string machineType, SwitchoverAckCount count)
    {
        AskTwice(approvals: 2);
        Count(machineType, count);
        _pair.Succeed();
        string[] calls = _pair.Log.Calls;
        Assert.True(Array.IndexOf(calls, "approve 2") is >= 0 and int last && last < Array.IndexOf(calls, "stop"), string.Join(", ", calls));
        Assert.True(_pair.SourceResult!.SwitchoverAcknowledged && _pair.TargetResult!.SwitchoverAcknowledged);
        Assert.Equal(0, _pair.Log.Count("a.SwitchoverAckNeeded"));
    }

    [Fact]
    public void Where_acknowledgements_are_counted_and_no_device_asks_there_is_no_wait_and_none_is_sent()
    {
        _pair.Device("a", ScriptedDevice.Live | SaveVmHandler.SwitchoverAckNeeded);
        Count("pc-i440fx-12.0", SwitchoverAckCount.ByMachineType);
        _pair.Succeed();
        Assert.False(_pair.SourceResult!.SwitchoverAcknowledged || _pair.TargetResult!.SwitchoverAcknowledged);
    }

    [Fact]
    public void An_acknowledgement_that_is_waited_for_and_does_not_come_fails_by_name_although_another_came()
    {
        AskTwice(approvals: 1);
        Count("none", SwitchoverAckCount.PerDevice);
        _pair.SourceTimeout = TimeSpan.FromSeconds(1);
        _pair.Run();
        Assert.Equal(SaveVmError.SwitchoverAckTimeout, Assert.IsType<SaveVmException>(_pair.SourceFailure).Reason);
        Assert.Equal(0, _pair.Log.Count("stop"));
    }

    [Fact]
    public void More_acknowledgements_than_devices_have_asked_for_break_the_protocol()
    {
        _pair.Device("a", ScriptedDevice.Live).Target.On(SaveVmHandler.LoadSetup, (context, _) => context.ApproveSwitchover());
        Count("virt-11.1", SwitchoverAckCount.ByMachineType);
        _pair.Run();
        var failure = Assert.IsType<StreamException>(_pair.SourceFailure);
        Assert.Equal(StreamError.InvalidReturnPath, failure.Reason);
        Assert.Contains("once more than devices have asked", failure.Message, StringComparison.Ordinal);
        Assert.NotNull(failure.ByteOffset);
    }

    [Theory]
    [InlineData("pc-q35-11.1", true)]
    [InlineData("pc-i440fx-11.10", true)]
    [InlineData("s390-ccw-virtio-12.0", true)]
    [InlineData("pc-q35-11.0", false)]
    [InlineData("pc-q35-9.2", false)]
    [InlineData("pc-q35-rhel9.6.0", false)]
    [InlineData("none", false)]
    [InlineData("", false)]
    [InlineData(null, false)]
    public void The_machine_type_says_whether_acknowledgements_are_counted(string? machineType, bool perDevice)
    {
        Assert.Equal(perDevice, MachineVersion.AcksPerDevice(SwitchoverAckCount.ByMachineType, machineType));
        Assert.False(MachineVersion.AcksPerDevice(SwitchoverAckCount.Once, machineType));
        Assert.True(MachineVersion.AcksPerDevice(SwitchoverAckCount.PerDevice, machineType));
    }

    [Theory]
    [InlineData(true, "The first section")]
    [InlineData(false, "The end mark")]
    public void A_source_without_the_return_path_that_is_required_is_refused_before_a_device_loads_anything(bool hasDevice, string where)
    {
        if (hasDevice)
        {
            _pair.Device("a", ScriptedDevice.Live);
        }

        _pair.SourceOptions = _pair.SourceOptions with { ReturnPath = false };
        _pair.TargetOptions = _pair.TargetOptions with { RequireReturnPath = true };
        _pair.Run();
        var failure = Assert.IsType<SaveVmException>(_pair.TargetFailure);
        Assert.Equal((SaveVmError.ReturnPathMissing, MigrationOwner.Source), (failure.Reason, failure.Owner));
        Assert.StartsWith(where, failure.Message, StringComparison.Ordinal);
        Assert.NotNull(failure.ByteOffset);
        Assert.Equal((0, hasDevice ? 1 : 0), (_pair.Log.Count("a.LoadState"), _pair.Log.Count("a.LoadCleanup")));
    }

    [Fact]
    public void A_source_with_the_return_path_that_is_required_completes()
    {
        _pair.Device("a", ScriptedDevice.Live);
        _pair.TargetOptions = _pair.TargetOptions with { RequireReturnPath = true };
        _pair.Succeed();
        Assert.True(_pair.SourceResult!.Confirmed);
    }

    [Fact]
    public void A_return_path_cannot_be_required_of_a_connection_that_has_none()
        => Assert.Throws<ArgumentException>(() => new SaveVmTarget(_pair.Target, new SaveVmTargetOptions { RequireReturnPath = true }));

    [Fact]
    public void Without_switchover_start_as_before_machine_types_10_the_target_s_devices_are_not_told()
    {
        _pair.Device("a", ScriptedDevice.Live);
        _pair.SourceOptions = _pair.SourceOptions with { SwitchoverStart = false };
        _pair.Succeed();
        Assert.Equal(0, _pair.Log.Count("a.SwitchoverStart"));
    }

    [Fact]
    public void An_iteration_is_told_when_its_share_of_the_bandwidth_is_used_up()
    {
        var budgets = new List<(long Left, bool Exceeded)>();
        var (device, target) = _pair.Device("d", ScriptedDevice.Live, new byte[1000]);
        device.On(SaveVmHandler.SaveLiveIterate, (_, stream) => budgets.Add((((SaveVmSaveStream)stream!).RemainingBudget, ((SaveVmSaveStream)stream).BudgetExceeded)));
        // A turn is long, so that its bytes are used up and not its time.
        _pair.SourceOptions = _pair.SourceOptions with { DowntimeLimit = TimeSpan.Zero, MaxBandwidth = 1000, Turn = TimeSpan.FromMilliseconds(100) };
        _pair.Succeed();
        Assert.Equal(device.State, target.Loaded);
        Assert.All(budgets, b => Assert.InRange(b.Left, 0, 100));
        Assert.Contains(budgets, b => b is { Left: > 50, Exceeded: false });
    }

    [Fact]
    public void Sections_go_by_priority()
    {
        _pair.Device("late", ScriptedDevice.Whole);
        var early = new ScriptedDevice("early", _pair.Log, ScriptedDevice.Whole);
        _pair.Source.Register("early", -1, 1, early, priority: 1);
        _pair.Target.Register("early", -1, 1, early, priority: 1);
        _pair.Succeed();
        Assert.Equal(["early.SaveState", "late.SaveState"], _pair.Log.Calls.Where(c => c.EndsWith(".SaveState", StringComparison.Ordinal)));
    }

    [Fact]
    public void A_device_is_found_by_its_alias_and_gets_the_source_s_version()
    {
        var target = new ScriptedDevice("new", _pair.Log, ScriptedDevice.Whole);
        _pair.Source.Register("old", 2, 3, new ScriptedDevice("old", _pair.Log, ScriptedDevice.Whole));
        _pair.Target.Register("new", 0, 5, target, 0, new SaveVmAlias("old", 2));
        _pair.Succeed();
        Assert.Equal(3, target.LoadedVersion);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_downtime_has_its_named_parts_on_both_sides(bool postcopy)
    {
        if (postcopy)
        {
            _pair.Postcopy();
            _pair.Device("late", ScriptedDevice.Late);
        }

        var (source, target) = _pair.Device("a", ScriptedDevice.Live & ~SaveVmHandler.SaveLiveIterate & ~SaveVmHandler.StatePendingEstimate & ~SaveVmHandler.StatePendingExact);
        var (whole, loaded) = _pair.Device("b", ScriptedDevice.Whole);
        var spin = TimeSpan.FromMilliseconds(20);
        void Spin(SaveVmContext context, Stream? stream) => Assert.False(context.CancellationToken.WaitHandle.WaitOne(spin));
        source.On(SaveVmHandler.SaveLiveCompletePrecopy, Spin);
        target.On(SaveVmHandler.SwitchoverStart, Spin).On(SaveVmHandler.LoadState, Spin);
        whole.On(SaveVmHandler.SaveState, Spin);
        loaded.On(SaveVmHandler.LoadState, Spin);
        _pair.SourceOptions = _pair.SourceOptions with { StopDevice = () => Assert.False(CancellationToken.None.WaitHandle.WaitOne(spin)) };
        _pair.Succeed();
        var sent = _pair.SourceResult!.Downtime;
        var received = _pair.TargetResult!.Downtime;
        Assert.True(sent.Switchover >= spin && sent.FinalIteration >= spin && sent.State >= spin && sent.Total < _pair.SourceResult.Duration, sent.ToString());
        // In postcopy the source waits for the state to be loaded before it gives the VM away, otherwise at the end.
        Assert.True((postcopy ? sent.Send : sent.Complete) >= spin, sent.ToString());
        Assert.True(received.Switchover >= spin && received.FinalIteration >= spin && received.State >= spin && received.Total < _pair.TargetResult.Duration, received.ToString());
    }

    // A device that asks for two acknowledgements before its first iteration, and gets some once the target has what it sent.
    private void AskTwice(int approvals)
    {
        int asked = 0;
        var source = new ScriptedDevice("a", _pair.Log, ScriptedDevice.Live)
        {
            Estimate = () => new PendingBytes(0) { SwitchoverAcks = Interlocked.Exchange(ref asked, 2) == 0 ? 2 : 0 },
            Exact = () => new PendingBytes(0),
        };
        var target = new ScriptedDevice("a", _pair.Log, ScriptedDevice.Live | SaveVmHandler.SwitchoverAckNeeded);
        _pair.Source.Register("a", 0, 1, source);
        _pair.Target.Register("a", 0, 1, target);
        int approved = 0;
        target.On(SaveVmHandler.LoadState, (context, _) =>
        {
            if (target.Loaded.Length > 0 && approved < approvals)
            {
                _pair.Log.Add($"approve {++approved}");
                context.ApproveSwitchover();
            }
        });
    }

    private void Count(string machineType, SwitchoverAckCount count)
    {
        WithAck();
        _pair.SourceOptions = _pair.SourceOptions with { MachineType = machineType, SwitchoverAckCount = count };
        _pair.TargetOptions = _pair.TargetOptions with { SwitchoverAckCount = count };
    }

    private void WithAck()
    {
        _pair.SourceOptions = _pair.SourceOptions with { SwitchoverAck = true };
        _pair.TargetOptions = _pair.TargetOptions with { SwitchoverAck = true };
    }
}
