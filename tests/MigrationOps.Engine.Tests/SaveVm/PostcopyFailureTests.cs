using System.Diagnostics;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

public class PostcopyFailureTests
{
    private const SaveVmHandler Late = ScriptedDevice.Late | SaveVmHandler.IsActive | SaveVmHandler.IsActiveIterate;

    private readonly MigrationPair _pair = new MigrationPair().Postcopy();

    public static TheoryData<SaveVmHandler> HandlersAfterTheSwitch =>
    [
        SaveVmHandler.SaveLiveIterate, SaveVmHandler.StatePendingEstimate, SaveVmHandler.StatePendingExact, SaveVmHandler.IsActive,
        SaveVmHandler.IsActiveIterate, SaveVmHandler.HasPostcopy, SaveVmHandler.SaveLiveCompletePostcopy,
    ];

    [Theory]
    [InlineData("middle", SaveVmHandler.HasPostcopy)]
    [InlineData("live", SaveVmHandler.SaveLiveCompletePrecopy)]
    [InlineData("last", SaveVmHandler.SaveState)]
    public void A_source_handler_that_throws_at_the_switch_leaves_the_vm_here(string device, SaveVmHandler handler)
    {
        var devices = Devices();
        devices[device].Source.On(handler, (_, _) => throw new InvalidDataException("broken on purpose"));
        _pair.Run();
        Assert.Equal(("SaveVmHandlerFailed", MigrationOwner.Source), PostcopyTests.Reason(_pair.SourceFailure));
        Assert.Equal(MigrationOwner.Source, Assert.IsAssignableFrom<MigrationOpsException>(_pair.TargetFailure).Owner);
        AssertOver();
        Assert.Equal((1, 1, 0), (_pair.Log.Count("stop"), _pair.Log.Count("resume"), _pair.Log.Count("start")));
    }

    [Theory, MemberData(nameof(HandlersAfterTheSwitch))]
    public void A_source_handler_that_throws_once_the_target_runs_pauses_both_sides_and_can_be_resumed(SaveVmHandler handler)
    {
        var devices = Devices();
        bool broken = true;
        devices["middle"].Source.On(handler, (_, _) =>
        {
            if (broken && _pair.Log.Count("start") > 0)
            {
                throw new InvalidDataException("broken on purpose");
            }
        });
        WaitForStart(devices["first"].Source);
        _pair.Run();
        Assert.Equal(("SaveVmPostcopyPaused", MigrationOwner.Target), PostcopyTests.Reason(_pair.SourceFailure));
        Assert.Equal(SaveVmError.HandlerFailed, Assert.IsType<SaveVmException>(_pair.SourceFailure!.InnerException).Reason);
        Assert.Contains($"{handler} of section 3 (middle)", _pair.SourceFailure.Message, StringComparison.Ordinal);
        AssertPaused();
        broken = false;
        _pair.Resume().AssertSucceeded();
        Assert.All(devices.Values, d => Assert.Equal(d.Source.State, d.Target.Loaded));
        Assert.Equal((1, 1), (_pair.SourceResult!.Recoveries, _pair.TargetResult!.Recoveries));
        AssertOver();
        Assert.Equal((1, 0, 1), (_pair.Log.Count("stop"), _pair.Log.Count("resume"), _pair.Log.Count("start")));
    }

    [Theory, MemberData(nameof(HandlersAfterTheSwitch))]
    public void A_source_handler_that_hangs_once_the_target_runs_ends_it_for_good_and_the_vm_stays_the_target_s(SaveVmHandler handler)
    {
        using var release = new ManualResetEventSlim();
        var devices = Devices();
        devices["middle"].Source.On(handler, (_, _) =>
        {
            if (_pair.Log.Count("start") > 0)
            {
                release.Wait();
            }
        });
        WaitForStart(devices["first"].Source);
        _pair.SourceTimeout = TimeSpan.FromSeconds(2);
        _pair.Run();
        Assert.Equal(("SaveVmHandlerTimeout", MigrationOwner.Target), PostcopyTests.Reason(_pair.SourceFailure));
        Assert.Contains("cannot be resumed", _pair.SourceFailure!.Message, StringComparison.Ordinal);
        Assert.Equal((false, true), (_pair.SourceDriver!.IsPaused, _pair.TargetDriver!.IsPaused));
        GiveUp(_pair.TargetDriver.Abandon);
        AssertOver();
        Assert.Equal(0, _pair.Log.Count("resume"));
        release.Set();
    }

    [Theory, MemberData(nameof(HandlersAfterTheSwitch))]
    public void A_cancellation_once_the_target_runs_pauses_and_does_not_bring_the_device_back(SaveVmHandler handler)
    {
        using var cancel = new CancellationTokenSource();
        var devices = Devices();
        devices["middle"].Source.On(handler, (context, _) =>
        {
            if (_pair.Log.Count("start") > 0 && !cancel.IsCancellationRequested)
            {
                cancel.Cancel();
                context.CancellationToken.ThrowIfCancellationRequested();
            }
        });
        WaitForStart(devices["first"].Source);
        _pair.SourceCancellation = cancel.Token;
        var clock = Stopwatch.StartNew();
        _pair.Run();
        Assert.IsAssignableFrom<OperationCanceledException>(_pair.SourceFailure);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(40), $"{clock.Elapsed}");
        AssertPaused();
        _pair.SourceCancellation = default;
        _pair.Resume().AssertSucceeded();
        Assert.All(devices.Values, d => Assert.Equal(d.Source.State, d.Target.Loaded));
        AssertOver();
        Assert.Equal(0, _pair.Log.Count("resume"));
    }

    [Theory]
    [InlineData("middle", SaveVmHandler.LoadSetup)]
    [InlineData("middle", SaveVmHandler.SwitchoverStart)]
    [InlineData("live", SaveVmHandler.LoadState)]
    [InlineData("last", SaveVmHandler.LoadState)]
    public void A_target_handler_that_throws_before_the_device_runs_gives_the_vm_back_to_the_source(string device, SaveVmHandler handler)
    {
        var devices = Devices();
        devices[device].Target.On(handler, (_, _) => throw new InvalidDataException("broken on purpose"));
        _pair.Run();
        Assert.Equal(("SaveVmHandlerFailed", MigrationOwner.Source), PostcopyTests.Reason(_pair.TargetFailure));
        Assert.Equal(MigrationOwner.Source, Assert.IsAssignableFrom<MigrationOpsException>(_pair.SourceFailure).Owner);
        Assert.False(_pair.SourceDriver!.IsPaused || _pair.TargetDriver!.IsPaused);
        AssertOver();
        Assert.Equal((_pair.Log.Count("stop"), 0), (_pair.Log.Count("resume"), _pair.Log.Count("start")));
    }

    [Fact]
    public void A_target_handler_that_throws_once_the_device_runs_pauses_both_sides_and_can_be_resumed()
    {
        var devices = Devices();
        bool broken = true;
        devices["middle"].Target.On(SaveVmHandler.LoadState, (_, _) =>
        {
            if (broken && _pair.Log.Count("start") > 0)
            {
                throw new InvalidDataException("broken on purpose");
            }
        });

        // The last section leaves only when the device runs, so that there is one to break at.
        devices["middle"].Source.On(SaveVmHandler.SaveLiveCompletePostcopy,
            (_, _) => Assert.True(SpinWait.SpinUntil(() => _pair.Log.Count("start") > 0, TimeSpan.FromSeconds(30))));
        _pair.Run();
        Assert.Equal(("SaveVmPostcopyPaused", MigrationOwner.Target), PostcopyTests.Reason(_pair.TargetFailure));
        Assert.Equal(("SaveVmPostcopyPaused", MigrationOwner.Target), PostcopyTests.Reason(_pair.SourceFailure));
        AssertPaused();
        broken = false;
        _pair.Resume().AssertSucceeded();
        Assert.All(devices.Values, d => Assert.Equal(d.Source.State, d.Target.Loaded));
        AssertOver();
    }

    [Fact]
    public void A_device_that_cannot_be_started_on_the_target_is_not_brought_back_here_by_itself()
    {
        Devices();
        _pair.TargetOptions = _pair.TargetOptions with { StartDevice = () => throw new InvalidOperationException("no power") };
        _pair.Run();
        Assert.Equal(("SaveVmHandlerFailed", MigrationOwner.Unknown), PostcopyTests.Reason(_pair.TargetFailure));
        Assert.Equal(("SaveVmPostcopyPaused", MigrationOwner.Unknown), PostcopyTests.Reason(_pair.SourceFailure));
        Assert.Equal(0, _pair.Log.Count("resume"));
        GiveUp(_pair.SourceDriver!.Abandon);
        AssertOver();
        Assert.Equal(0, _pair.Log.Count("resume"));
    }

    [Fact]
    public void A_device_without_resume_prepare_cannot_be_resumed_and_is_named()
    {
        var (source, _) = _pair.Device("late", ScriptedDevice.Late & ~SaveVmHandler.ResumePrepare);
        source.On(SaveVmHandler.SaveLiveCompletePostcopy, (_, _) => throw new InvalidDataException("broken on purpose"));
        WaitForStart(source);
        _pair.Run();
        Assert.Equal(("SaveVmHandlerFailed", MigrationOwner.Target), PostcopyTests.Reason(_pair.SourceFailure));
        Assert.Contains("section 1 (late) does not offer ResumePrepare", _pair.SourceFailure!.Message, StringComparison.Ordinal);
        Assert.Equal((false, 1, 0), (_pair.SourceDriver!.IsPaused, _pair.Log.Count("late.SaveCleanup"), _pair.Log.Count("resume")));
        GiveUp(_pair.TargetDriver!.Abandon);
    }

    [Fact]
    public void A_paused_migration_stands_in_the_way_of_a_new_one_until_it_is_given_up()
    {
        var devices = Devices();
        devices["middle"].Source.On(SaveVmHandler.SaveLiveCompletePostcopy, (_, _) => throw new InvalidDataException("broken on purpose"));
        _pair.Run();
        AssertPaused();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        Assert.Equal(SaveVmError.WrongPhase, Assert.Throws<SaveVmException>(() => _pair.SourceDriver!.Run(_ => Stream.Null, scope)).Reason);
        Assert.Equal(SaveVmError.WrongPhase, Assert.Throws<SaveVmException>(() => _pair.TargetDriver!.Run(_ => Stream.Null, scope)).Reason);
        GiveUp(_pair.SourceDriver!.Abandon);
        GiveUp(_pair.TargetDriver!.Abandon);
        AssertOver();
        Assert.Equal((0, 1), (_pair.Log.Count("resume"), _pair.Log.Count("start")));
    }

    [Fact]
    public void A_resume_prepare_that_throws_pauses_again_and_loses_nothing()
    {
        var devices = Devices();
        bool broken = true;
        void Break(SaveVmContext context, Stream? stream)
        {
            if (broken)
            {
                throw new InvalidDataException("broken on purpose");
            }
        }

        devices["middle"].Source.On(SaveVmHandler.SaveLiveCompletePostcopy, Break).On(SaveVmHandler.ResumePrepare, Break);
        _pair.Run();
        _pair.Resume();
        Assert.Equal(("SaveVmPostcopyPaused", MigrationOwner.Target), PostcopyTests.Reason(_pair.SourceFailure));
        Assert.Contains("ResumePrepare of section 3 (middle)", _pair.SourceFailure!.Message, StringComparison.Ordinal);
        AssertPaused();
        broken = false;
        _pair.Resume().AssertSucceeded();
        Assert.All(devices.Values, d => Assert.Equal(d.Source.State, d.Target.Loaded));
        Assert.Equal(1, _pair.SourceResult!.Recoveries);
        AssertOver();
    }

    // The first one is late too, so that the target has been told to run before the middle one has its turn.
    private Dictionary<string, (ScriptedDevice Source, ScriptedDevice Target)> Devices() => new()
    {
        ["first"] = _pair.Device("first", ScriptedDevice.Late),
        ["live"] = _pair.Device("live", ScriptedDevice.Live & ~SaveVmHandler.SaveLiveIterate & ~SaveVmHandler.StatePendingEstimate & ~SaveVmHandler.StatePendingExact),
        ["middle"] = _pair.Device("middle", Late),
        ["last"] = _pair.Device("last", ScriptedDevice.Whole),
    };

    // The source continues only once the target has started the device, so that what follows happens after it.
    private void WaitForStart(ScriptedDevice device)
    {
        var started = new ManualResetEventSlim();
        var start = _pair.TargetOptions.StartDevice!;
        _pair.TargetOptions = _pair.TargetOptions with
        {
            StartDevice = () =>
            {
                start();
                started.Set();
            },
        };
        device.On(SaveVmHandler.SaveLiveIterate, (_, _) => Assert.True(started.Wait(TimeSpan.FromSeconds(30))));
    }

    private void AssertPaused()
    {
        Assert.True(_pair.SourceDriver!.IsPaused, "The source is not paused.");
        Assert.True(_pair.TargetDriver!.IsPaused, "The target is not paused.");
        Assert.DoesNotContain(_pair.Log.Calls, c => c.EndsWith("Cleanup", StringComparison.Ordinal));
        Assert.Equal((1, 0, 1), (_pair.Log.Count("stop"), _pair.Log.Count("resume"), _pair.Log.Count("start")));
    }

    private void AssertOver()
    {
        foreach (string device in (string[])["first", "live", "middle", "last"])
        {
            Assert.Equal((1, 1), (_pair.Log.Count($"{device}.SaveCleanup"), _pair.Log.Count($"{device}.LoadCleanup")));
        }
    }

    private static void GiveUp(Func<TransferScope, IReadOnlyList<string>> abandon)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        Assert.Empty(abandon(scope));
    }
}
