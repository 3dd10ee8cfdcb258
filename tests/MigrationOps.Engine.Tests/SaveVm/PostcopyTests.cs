using System.Buffers.Binary;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;

namespace MigrationOps.Engine.Tests.SaveVm;

public class PostcopyTests
{
    private readonly MigrationPair _pair = new MigrationPair().Postcopy();

    [Fact]
    public void Everything_happens_in_qemu_s_order()
    {
        var (late, lateLoaded) = _pair.Device("late", ScriptedDevice.Late);
        var (live, liveLoaded) = _pair.Device("live", ScriptedDevice.Live & ~SaveVmHandler.StatePendingEstimate & ~SaveVmHandler.StatePendingExact
            & ~SaveVmHandler.SaveLiveIterate);
        var (whole, wholeLoaded) = _pair.Device("whole", ScriptedDevice.Whole);
        _pair.Succeed();
        Assert.Equal([late.State, live.State, whole.State], (byte[][])[lateLoaded.Loaded, liveLoaded.Loaded, wholeLoaded.Loaded]);
        string[] source = [.. _pair.Log.Steps.Where(c => !c.Contains("Load", StringComparison.Ordinal) && !c.Contains("Switchover", StringComparison.Ordinal) && c != "start")];
        Assert.Equal(["stop", "live.SaveLiveCompletePrecopy", "whole.SaveState"], source[5..8]);
        Assert.Equal(["late.SaveLiveCompletePostcopy", "late.SaveCleanup", "live.SaveCleanup", "whole.SaveCleanup"], source[^4..]);
        Assert.Equal(["late.SaveLiveIterate", "late.SaveLiveIterate", "late.SaveLiveIterate"], source[8..^4]);
        string[] target = [.. _pair.Log.Calls.Where(c => c == "start" || c.Contains("Load", StringComparison.Ordinal))];
        int packaged = Array.IndexOf(target, "whole.LoadState");
        Assert.InRange(packaged, Array.LastIndexOf(target, "live.LoadState") + 1, Array.IndexOf(target, "start") - 1);
    }

    [Fact]
    public void The_stream_is_laid_out_as_qemu_lays_it_out()
    {
        _pair.Device("late", ScriptedDevice.Late, [1, 2]);
        _pair.Device("whole", ScriptedDevice.Whole, [9]);
        _pair.Succeed();
        byte[] expected =
        [
            0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3, 7, 0, 0, 0, 4, .. "none"u8,
            8, 0, 1, 0, 0, // OPEN_RETURN_PATH
            8, 0, 2, 0, 4, 0, 0, 0, 1, // PING 1
            8, 0, 3, 0, 0, // POSTCOPY_ADVISE without RAM
            1, 0, 0, 0, 1, 4, .. "late"u8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x7e, 0, 0, 0, 1,
            8, 0, 11, 0, 0, // SWITCHOVER_START
            8, 0, 2, 0, 4, 0, 0, 0, 2, // PING 2
            8, 0, 7, 0, 4, 0, 0, 0, 48, // PACKAGED
            8, 0, 4, 0, 0, // POSTCOPY_LISTEN
            4, 0, 0, 0, 2, 5, .. "whole"u8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 0x7e, 0, 0, 0, 2,
            8, 0, 2, 0, 4, 0, 0, 0, 3, // PING 3
            8, 0, 5, 0, 0, // POSTCOPY_RUN
            8, 0, 2, 0, 4, 0, 0, 0, 4, // PING 4
            2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 0x7e, 0, 0, 0, 1,
            3, 0, 0, 0, 1, 0, 0, 0, 0, 0x7e, 0, 0, 0, 1,
            0,
        ];
        Assert.Equal(Convert.ToHexString(expected), Convert.ToHexString(_pair.Sent));
    }

    [Fact]
    public void With_ram_the_advice_carries_its_page_sizes_and_the_machine_s()
    {
        _pair.Device("ram", ScriptedDevice.Late);
        _pair.SourceOptions = _pair.SourceOptions with { RamPageSizes = 0x201000 };
        _pair.TargetOptions = _pair.TargetOptions with { RamPageSizes = 0x201000, PageBits = 12 };
        _pair.Succeed();
        int at = _pair.Sent.AsSpan().IndexOf((ReadOnlySpan<byte>)[8, 0, 3, 0, 16]);
        Assert.Equal((0x201000L, 4096L), (BinaryPrimitives.ReadInt64BigEndian(_pair.Sent.AsSpan(at + 5)), BinaryPrimitives.ReadInt64BigEndian(_pair.Sent.AsSpan(at + 13))));
    }

    [Fact]
    public void The_result_says_that_the_target_owns_the_vm_and_how_it_got_there()
    {
        _pair.Device("late", ScriptedDevice.Late);
        _pair.Succeed();
        foreach (var result in (MigrationStreamTransfer[])[_pair.SourceResult!, _pair.TargetResult!])
        {
            Assert.Equal((true, MigrationOwner.Target, 0, true), (result.Postcopy, result.Owner, result.Recoveries, result.Confirmed));
            Assert.Equal(_pair.Sent.Length, result.Bytes);
        }
    }

    [Fact]
    public void A_migration_that_fits_into_the_downtime_stays_in_pre_copy()
    {
        var (late, loaded) = _pair.Device("late", ScriptedDevice.Late);
        _pair.SourceOptions = _pair.SourceOptions with { PostcopyAfter = 1000, DowntimeLimit = TimeSpan.FromSeconds(1) };
        _pair.Succeed();
        Assert.Equal(late.State, loaded.Loaded);
        Assert.Equal((1, 0), (_pair.Log.Count("late.SaveLiveCompletePrecopy"), _pair.Log.Count("late.SaveLiveCompletePostcopy")));
        Assert.False(_pair.SourceResult!.Postcopy || _pair.TargetResult!.Postcopy);
        Assert.Equal("start", _pair.Log.Calls.Last(c => c == "start" || c.EndsWith(".LoadState", StringComparison.Ordinal)));
    }

    [Fact]
    public void The_switch_comes_after_the_rounds_that_were_asked_for()
    {
        int rounds = 0;
        int stopped = -1;
        PendingBytes Pending() => stopped < 0 ? new(0, 1L << 40) : default;
        _pair.Source.Register("late", -1, 1, new ScriptedDevice("late", _pair.Log, ScriptedDevice.Late) { Estimate = Pending, Exact = Pending });
        _pair.Target.Register("late", -1, 1, new ScriptedDevice("late", _pair.Log, ScriptedDevice.Late));
        _pair.SourceOptions = _pair.SourceOptions with { PostcopyAfter = 3, OnRound = r => rounds = r.Round, StopDevice = () => stopped = rounds };
        _pair.Succeed();
        Assert.Equal(3, stopped);
    }

    [Fact]
    public void Only_what_must_arrive_first_has_to_fit_into_the_downtime()
    {
        long must = 3;
        long atStop = -1;
        PendingBytes Pending() => atStop < 0 ? new(must, 1L << 40) : default;
        var device = new ScriptedDevice("late", _pair.Log, ScriptedDevice.Late) { Estimate = Pending, Exact = Pending };
        device.On(SaveVmHandler.SaveLiveIterate, (_, _) => must--);
        _pair.Source.Register("late", -1, 1, device);
        _pair.Target.Register("late", -1, 1, new ScriptedDevice("late", _pair.Log, ScriptedDevice.Late));
        _pair.SourceOptions = _pair.SourceOptions with { StopDevice = () => atStop = must };
        _pair.Succeed();
        Assert.Equal(0, atStop);
    }

    [Fact]
    public void No_device_is_asked_for_postcopy_without_it()
    {
        _pair.Device("late", ScriptedDevice.Late);
        _pair.SourceOptions = _pair.SourceOptions with { Postcopy = false };
        _pair.Succeed();
        Assert.Equal((0, 0, 0), (_pair.Log.Count("late.HasPostcopy"), _pair.Log.Count("late.SaveLiveCompletePostcopy"), _pair.Log.Count("late.ResumePrepare")));
    }

    [Fact]
    public void A_device_that_says_no_is_completed_at_the_switch_and_never_again()
    {
        var no = new Refuser();
        _pair.Source.Register("no", -1, 1, no);
        _pair.Target.Register("no", -1, 1, no);
        _pair.Succeed();
        Assert.Equal(["setup", "precopy"], no.Calls);
        Assert.True(_pair.SourceResult!.Postcopy);
    }

    [Fact]
    public void A_target_that_may_not_do_postcopy_refuses_the_announcement()
    {
        _pair.Device("late", ScriptedDevice.Late);
        _pair.TargetOptions = _pair.TargetOptions with { Postcopy = false };
        _pair.Run();
        Assert.Equal(("SaveVmNotSupported", MigrationOwner.Source), Reason(_pair.TargetFailure));
        Assert.Equal(_pair.Log.Count("stop"), _pair.Log.Count("resume"));
        Assert.Equal(MigrationOwner.Source, Assert.IsType<SaveVmException>(_pair.SourceFailure).Owner);
    }

    [Fact]
    public void Device_state_that_is_too_long_for_memory_leaves_the_vm_here()
    {
        _pair.Device("late", ScriptedDevice.Late);
        _pair.Device("whole", ScriptedDevice.Whole, new byte[100_000]);
        _pair.SourceOptions = _pair.SourceOptions with { MaxPackage = 70_000 };
        _pair.Run();
        Assert.Equal(("StreamInvalidPackage", MigrationOwner.Source), Reason(_pair.SourceFailure));
        Assert.Equal((1, 1, 0), (_pair.Log.Count("stop"), _pair.Log.Count("resume"), _pair.Log.Count("start")));
    }

    [Fact]
    public void Postcopy_without_the_return_path_is_refused()
        => Assert.Throws<ArgumentException>(() => new SaveVmSource(new SaveVmRegistry(), new() { Postcopy = true }));

    [Fact]
    public void What_is_not_paused_can_neither_go_on_nor_be_given_up()
    {
        using var scope = new Engine.Wire.TransferScope(TimeSpan.FromSeconds(1));
        var source = new SaveVmSource(new SaveVmRegistry(), new());
        var target = new SaveVmTarget(new SaveVmRegistry(), new());
        Action[] wrong =
        [
            () => source.Resume(_ => Stream.Null, scope), () => source.Abandon(scope),
            () => target.Resume(_ => Stream.Null, scope), () => target.Abandon(scope),
        ];
        Assert.All(wrong, action => Assert.Equal(SaveVmError.WrongPhase, Assert.Throws<SaveVmException>(action).Reason));
    }

    internal static (string ErrorId, MigrationOwner?) Reason(Exception? failure)
    {
        var known = Assert.IsAssignableFrom<MigrationOpsException>(failure);
        return (known.ErrorId, known.Owner);
    }

    private sealed class Refuser : ISaveVmHandlers
    {
        internal List<string> Calls { get; } = [];

        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => Calls.Add("setup");

        public bool HasPostcopy(SaveVmContext context) => false;

        public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => Calls.Add("precopy");

        public void SaveLiveCompletePostcopy(SaveVmSaveStream stream, SaveVmContext context) => Calls.Add("postcopy");

        public PendingBytes StatePendingEstimate(SaveVmContext context) => new(0, Calls.Contains("precopy") ? 0 : 100);

        public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
        {
        }
    }
}
