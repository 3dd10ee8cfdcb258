using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>The package of device state is loaded while the main stream continues; what goes wrong on the target in each phase of postcopy.</summary>
public sealed class PostcopyPackageTests : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private readonly MigrationPair _pair = new MigrationPair().Postcopy();
    private readonly ManualResetEventSlim _release = new();
    private readonly CancellationTokenSource _cancel = new();
    private readonly ManualResetEventSlim _pageCame = new();
    private ScriptedDevice _memory = null!;
    private ScriptedDevice _state = null!;

    // The first section of the memory comes in the setup, all others after the switch.
    private bool IsBehindThePackage => _pair.Log.Count("memory.LoadState") > 1;

    /// <summary>Where a fault is injected on the target; and whether the device runs there by then.</summary>
    public static TheoryData<string> PhasesBeforeTheDeviceRuns => ["advise", "listen", "package"];

    public static TheoryData<string> PhasesWhileTheDeviceRuns => ["after run", "complete"];

    public void Dispose()
    {
        _release.Set();
        _release.Dispose();
        _cancel.Dispose();
        _pageCame.Dispose();
    }

    [Fact]
    public void A_device_in_the_package_may_wait_for_a_page_that_comes_behind_it()
    {
        Devices(stateNeedsPage: true);
        _pair.Succeed();
        string[] calls = _pair.Log.Calls;
        Assert.True(_pageCame.IsSet);
        int page = Array.IndexOf(calls, "memory.LoadState", Array.IndexOf(calls, "memory.LoadState") + 1);
        Assert.InRange(page, 0, Array.IndexOf(calls, "start"));
        Assert.Equal(_memory.State, _memory.Loaded);
        Assert.Equal(_state.State, _state.Loaded);
        Assert.True(_pair.TargetResult!.Postcopy);
        Assert.Equal(_pair.SourceResult!.Bytes, _pair.TargetResult.Bytes);
        Assert.Equal(_pair.SourceResult.Sections, _pair.TargetResult.Sections);
    }

    [Fact]
    public void The_end_of_the_stream_waits_for_the_package()
    {
        Devices();
        _state.On(SaveVmHandler.LoadState, (context, _) =>
        {
            // The source sends nothing after the last section.
            Assert.True(SpinWait.SpinUntil(() => _memory.Loaded.Length == _memory.State.Length || context.CancellationToken.IsCancellationRequested, Limit));
        });
        _pair.Succeed();
        string[] calls = _pair.Log.Calls;
        Assert.True(Array.LastIndexOf(calls, "memory.LoadState") < Array.IndexOf(calls, "start"), string.Join(", ", calls));
        Assert.Equal(1, _pair.Log.Count("start"));
    }

    [Theory, MemberData(nameof(PhasesBeforeTheDeviceRuns))]
    public void What_throws_before_the_device_runs_leaves_the_vm_to_the_source(string phase)
    {
        At(phase, _ => throw new InvalidDataException("broken on purpose"));
        _pair.Run();
        Assert.Equal(("SaveVmHandlerFailed", MigrationOwner.Source), PostcopyTests.Reason(_pair.TargetFailure));
        Assert.Contains("broken on purpose", _pair.TargetFailure!.Message, StringComparison.Ordinal);
        AssertNeverStarted();
    }

    [Theory, MemberData(nameof(PhasesBeforeTheDeviceRuns))]
    public void What_hangs_before_the_device_runs_ends_at_its_deadline_and_leaves_the_vm_to_the_source(string phase)
    {
        At(phase, _ => _release.Wait(Limit));
        _pair.TargetTimeout = TimeSpan.FromSeconds(2);
        _pair.Run();
        Assert.Equal(("SaveVmHandlerTimeout", MigrationOwner.Source), PostcopyTests.Reason(_pair.TargetFailure));
        Assert.StartsWith("LoadState of section", _pair.TargetFailure!.Message, StringComparison.Ordinal);
        AssertNeverStarted();
    }

    [Theory, MemberData(nameof(PhasesBeforeTheDeviceRuns))]
    public void What_is_cancelled_before_the_device_runs_leaves_the_vm_to_the_source(string phase)
    {
        At(phase, Cancel);
        _pair.TargetCancellation = _cancel.Token;
        _pair.Run();
        Assert.IsAssignableFrom<OperationCanceledException>(_pair.TargetFailure);
        AssertNeverStarted();
    }

    [Theory, MemberData(nameof(PhasesWhileTheDeviceRuns))]
    public void What_throws_while_the_device_runs_pauses_and_keeps_the_vm(string phase)
    {
        At(phase, _ => throw new InvalidDataException("broken on purpose"));
        _pair.Run();
        Assert.Equal(("SaveVmPostcopyPaused", MigrationOwner.Target), PostcopyTests.Reason(_pair.TargetFailure));
        Assert.Equal(SaveVmError.HandlerFailed, Assert.IsType<SaveVmException>(_pair.TargetFailure!.InnerException).Reason);
        AssertPaused();
    }

    [Theory, MemberData(nameof(PhasesWhileTheDeviceRuns))]
    public void What_hangs_while_the_device_runs_ends_it_for_good_and_keeps_the_vm(string phase)
    {
        At(phase, _ => _release.Wait(Limit));
        _pair.TargetTimeout = TimeSpan.FromSeconds(2);
        _pair.Run();
        Assert.Equal(("SaveVmHandlerTimeout", MigrationOwner.Target), PostcopyTests.Reason(_pair.TargetFailure));
        Assert.False(_pair.TargetDriver!.IsPaused);
        Assert.Equal((1, 1, 0), (_pair.Log.Count("start"), _pair.Log.Count("state.LoadCleanup"), _pair.Log.Count("resume")));
    }

    [Theory, MemberData(nameof(PhasesWhileTheDeviceRuns))]
    public void What_is_cancelled_while_the_device_runs_pauses_and_keeps_the_vm(string phase)
    {
        At(phase, Cancel);
        _pair.TargetCancellation = _cancel.Token;
        _pair.Run();
        Assert.IsAssignableFrom<OperationCanceledException>(_pair.TargetFailure);
        AssertPaused();
    }

    [Theory]
    [InlineData("throws", SaveVmError.HandlerFailed)]
    [InlineData("hangs", SaveVmError.HandlerTimeout)]
    [InlineData("is cancelled", null)]
    public void The_owner_of_the_vm_is_unknown_when_the_start_of_the_device(string what, SaveVmError? reason)
    {
        Devices();
        _pair.TargetTimeout = TimeSpan.FromSeconds(2);
        _pair.TargetCancellation = _cancel.Token;
        _pair.TargetOptions = _pair.TargetOptions with
        {
            StartDevice = () =>
            {
                switch (what)
                {
                    case "throws":
                        throw new InvalidOperationException("no power");
                    case "hangs":
                        _release.Wait(Limit);
                        break;
                    default:
                        _cancel.Cancel();
                        _release.Wait(Limit);
                        break;
                }
            },
        };
        _pair.Run();
        if (reason is { } expected)
        {
            Assert.Equal(("SaveVm" + expected, MigrationOwner.Unknown), PostcopyTests.Reason(_pair.TargetFailure));
        }
        else
        {
            Assert.IsAssignableFrom<OperationCanceledException>(_pair.TargetFailure);
        }

        Assert.False(_pair.TargetDriver!.IsPaused);
        Assert.Equal((1, 0), (_pair.Log.Count("state.LoadCleanup"), _pair.Log.Count("resume")));
    }

    // Memory that can come late, and state that comes in the package.
    private void Devices(bool stateNeedsPage = false)
    {
        (_, _memory) = _pair.Device("memory", ScriptedDevice.Late);
        (_, _state) = _pair.Device("state", ScriptedDevice.Whole);
        if (stateNeedsPage)
        {
            _memory.On(SaveVmHandler.LoadState, (_, _) => PageComes());
            _state.On(SaveVmHandler.LoadState, (context, _) => AwaitPage(context));
        }
    }

    private void PageComes()
    {
        if (IsBehindThePackage)
        {
            _pageCame.Set();
        }
    }

    private void AwaitPage(SaveVmContext context) => Assert.True(_pageCame.Wait(Limit, context.CancellationToken));

    private void At(string phase, Action<SaveVmContext> fault)
    {
        Devices();
        switch (phase)
        {
            case "advise":
                _memory.On(SaveVmHandler.LoadState, (context, _) => fault(context));
                break;
            case "listen":
                _state.On(SaveVmHandler.LoadState, (context, _) => AwaitPage(context));
                _memory.On(SaveVmHandler.LoadState, (context, _) =>
                {
                    if (IsBehindThePackage)
                    {
                        fault(context);
                    }
                });
                break;
            case "package":
                _state.On(SaveVmHandler.LoadState, (context, _) => fault(context));
                break;
            default:
                _memory.On(SaveVmHandler.LoadState, (context, _) =>
                {
                    if (_memory.Loaded.Length > 0 && (phase == "after run" || _memory.Loaded.Length == _memory.State.Length))
                    {
                        Assert.True(SpinWait.SpinUntil(() => _pair.Log.Count("start") > 0, Limit));
                        fault(context);
                    }
                });
                break;
        }
    }

    private void Cancel(SaveVmContext context)
    {
        _cancel.Cancel();
        Assert.True(context.CancellationToken.WaitHandle.WaitOne(Limit));
        context.CancellationToken.ThrowIfCancellationRequested();
    }

    private void AssertNeverStarted()
    {
        Assert.False(_pair.TargetDriver!.IsPaused);
        Assert.Equal((0, 1, 1), (_pair.Log.Count("start"), _pair.Log.Count("memory.LoadCleanup"), _pair.Log.Count("state.LoadCleanup")));
    }

    private void AssertPaused()
    {
        Assert.True(_pair.TargetDriver!.IsPaused);
        Assert.Equal((1, 0, 0), (_pair.Log.Count("start"), _pair.Log.Count("state.LoadCleanup"), _pair.Log.Count("resume")));
        using var scope = new TransferScope(Limit);
        Assert.Empty(_pair.TargetDriver.Abandon(scope));
        Assert.Equal(1, _pair.Log.Count("state.LoadCleanup"));
    }
}
