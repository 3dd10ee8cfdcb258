using System.Diagnostics;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;

namespace MigrationOps.Engine.Tests.SaveVm;

public class HandlerFailureTests
{
    private const SaveVmHandler Everything = ScriptedDevice.Live | ScriptedDevice.Whole | SaveVmHandler.IsActive
        | SaveVmHandler.IsActiveIterate | SaveVmHandler.SwitchoverAckNeeded;

    private readonly MigrationPair _pair = new();

    public static TheoryData<SaveVmHandler> SourceHandlers =>
    [
        SaveVmHandler.SavePrepare, SaveVmHandler.SaveSetup, SaveVmHandler.SaveLiveIterate, SaveVmHandler.StatePendingEstimate,
        SaveVmHandler.StatePendingExact, SaveVmHandler.IsActive, SaveVmHandler.IsActiveIterate,
        SaveVmHandler.SaveLiveCompletePrecopy, SaveVmHandler.SaveState,
    ];

    public static TheoryData<SaveVmHandler> TargetHandlers =>
    [
        SaveVmHandler.LoadSetup, SaveVmHandler.LoadState, SaveVmHandler.IsActive, SaveVmHandler.SwitchoverAckNeeded,
        SaveVmHandler.SwitchoverStart,
    ];

    [Theory, MemberData(nameof(SourceHandlers))]
    public void A_source_handler_that_throws_ends_both_sides_by_name_with_every_cleanup(SaveVmHandler handler)
    {
        var (source, _) = Devices();
        source.On(handler, (_, _) => throw new InvalidDataException("broken on purpose"));
        _pair.Run();
        var failure = Assert.IsType<SaveVmException>(_pair.SourceFailure);
        Assert.Equal((SaveVmError.HandlerFailed, "section 2 (middle)"), (failure.Reason, failure.Section));
        Assert.Contains($"{handler} of section 2 (middle) failed at byte", failure.Message, StringComparison.Ordinal);
        Assert.IsType<InvalidDataException>(failure.InnerException);
        Assert.True(failure.ByteOffset >= _pair.Sent.Length, failure.Message);
        AssertTargetLostItsSource();
        AssertCleanedUp();
    }

    [Theory, MemberData(nameof(TargetHandlers))]
    public void A_target_handler_that_throws_ends_both_sides_by_name_with_every_cleanup(SaveVmHandler handler)
    {
        var (_, target) = Devices();
        target.On(handler, (_, _) => throw new InvalidDataException("broken on purpose"));
        _pair.Run();
        var failure = Assert.IsType<SaveVmException>(_pair.TargetFailure);
        Assert.Equal((SaveVmError.HandlerFailed, "section 2 (middle)"), (failure.Reason, failure.Section));
        Assert.NotNull(failure.ByteOffset);
        var reason = Assert.IsType<SaveVmException>(_pair.SourceFailure).Reason;
        // Before the return path is open, the target has no way to tell.
        bool untold = handler is SaveVmHandler.LoadSetup or SaveVmHandler.IsActive or SaveVmHandler.SwitchoverAckNeeded;
        Assert.Equal(untold ? SaveVmError.ConnectionLost : SaveVmError.TargetFailed, reason);
        AssertCleanedUp();
    }

    [Theory, MemberData(nameof(SourceHandlers))]
    public void A_source_handler_that_hangs_is_left_behind_at_the_deadline(SaveVmHandler handler)
    {
        using var release = new ManualResetEventSlim();
        var (source, _) = Devices();
        source.On(handler, (_, _) => release.Wait());
        WithoutAck();
        _pair.SourceTimeout = TimeSpan.FromSeconds(1);
        _pair.Run();
        var failure = Assert.IsType<SaveVmException>(_pair.SourceFailure);
        Assert.Equal((SaveVmError.HandlerTimeout, "section 2 (middle)"), (failure.Reason, failure.Section));
        Assert.Contains(handler.ToString(), failure.Message, StringComparison.Ordinal);
        AssertCleanedUp();
        release.Set();
    }

    [Theory, MemberData(nameof(TargetHandlers))]
    public void A_target_handler_that_hangs_is_left_behind_at_the_deadline(SaveVmHandler handler)
    {
        using var release = new ManualResetEventSlim();
        var (_, target) = Devices();
        target.On(handler, (_, _) => release.Wait());
        _pair.TargetTimeout = TimeSpan.FromSeconds(2);
        _pair.Run();
        Assert.Equal(SaveVmError.HandlerTimeout, Assert.IsType<SaveVmException>(_pair.TargetFailure).Reason);
        Assert.IsType<SaveVmException>(_pair.SourceFailure);
        AssertCleanedUp();
        release.Set();
    }

    [Theory, MemberData(nameof(SourceHandlers))]
    public void A_cancellation_inside_any_source_handler_ends_within_a_second(SaveVmHandler handler)
    {
        using var cancel = new CancellationTokenSource();
        using var release = new ManualResetEventSlim();
        var (source, _) = Devices();
        source.On(handler, (_, _) =>
        {
            cancel.Cancel();
            release.Wait();
        });
        _pair.SourceCancellation = cancel.Token;
        var clock = Stopwatch.StartNew();
        _pair.Run();
        Assert.IsAssignableFrom<OperationCanceledException>(_pair.SourceFailure);
        AssertTargetLostItsSource();
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(40), $"{clock.Elapsed}");
        AssertCleanedUp();
        release.Set();
    }

    [Theory, MemberData(nameof(TargetHandlers))]
    public void A_cancellation_inside_any_target_handler_is_told_to_the_source(SaveVmHandler handler)
    {
        using var cancel = new CancellationTokenSource();
        var (_, target) = Devices();
        target.On(handler, (context, _) =>
        {
            cancel.Cancel();
            context.CancellationToken.ThrowIfCancellationRequested();
        });
        _pair.TargetCancellation = cancel.Token;
        _pair.Run();
        Assert.IsAssignableFrom<OperationCanceledException>(_pair.TargetFailure);
        Assert.IsType<SaveVmException>(_pair.SourceFailure);
        AssertCleanedUp();
    }

    [Fact]
    public void A_cleanup_that_throws_or_hangs_is_a_warning_and_keeps_no_other_from_its_turn()
    {
        using var release = new ManualResetEventSlim();
        var (source, target) = Devices();
        source.On(SaveVmHandler.SaveCleanup, (_, _) => throw new InvalidDataException("broken on purpose"));
        target.On(SaveVmHandler.LoadCleanup, (_, _) => release.Wait());
        _pair.TargetTimeout = TimeSpan.FromSeconds(2);
        WithoutAck();
        _pair.Succeed();
        Assert.Contains("SaveCleanup of section 2 (middle) failed: broken on purpose", Assert.Single(_pair.SourceResult!.Warnings), StringComparison.Ordinal);
        Assert.Contains("LoadCleanup of section 2 (middle) did not return", Assert.Single(_pair.TargetResult!.Warnings), StringComparison.Ordinal);
        AssertCleanedUp();
        release.Set();
    }

    [Fact]
    public void A_handler_that_writes_after_its_call_fails_the_migration_by_name()
    {
        var (source, _) = Devices();
        SaveVmSaveStream? kept = null;
        source.On(SaveVmHandler.SaveSetup, (_, stream) => kept = (SaveVmSaveStream)stream!);
        source.On(SaveVmHandler.StatePendingEstimate, (_, _) => Assert.Throws<SaveVmException>(() => kept!.WriteByte(1)));
        _pair.Run();
        var failure = Assert.IsType<SaveVmException>(_pair.SourceFailure);
        Assert.Equal((SaveVmError.StreamAfterCall, "section 2 (middle)"), (failure.Reason, failure.Section));
        Assert.NotNull(failure.ByteOffset);
        AssertCleanedUp();
    }

    [Fact]
    public void A_handler_that_reads_after_its_call_fails_the_migration_by_name()
    {
        var (_, target) = Devices();
        Stream? kept = null;
        target.On(SaveVmHandler.LoadState, (_, stream) => kept ??= stream);
        target.On(SaveVmHandler.SwitchoverStart, (_, _) => Assert.Throws<SaveVmException>(() => kept!.ReadByte()));
        WithoutAck();
        _pair.Run();
        Assert.Equal(SaveVmError.StreamAfterCall, Assert.IsType<SaveVmException>(_pair.TargetFailure).Reason);
        AssertCleanedUp();
    }

    [Fact]
    public void A_device_that_reports_bytes_and_sends_none_fails_by_name()
    {
        var silent = new Silent(_pair.Log);
        _pair.Source.Register("silent", -1, 1, silent);
        _pair.Target.Register("silent", -1, 1, silent);
        _pair.SourceTimeout = TimeSpan.FromSeconds(1);
        _pair.Run();
        Assert.Equal(SaveVmError.NoProgress, Assert.IsType<SaveVmException>(_pair.SourceFailure).Reason);
        Assert.Equal(1, _pair.Log.Count("cleanup"));
    }

    [Fact]
    public void A_negative_number_of_pending_bytes_is_refused()
    {
        _pair.Source.Register("d", -1, 1, new ScriptedDevice("d", _pair.Log, ScriptedDevice.Live) { Estimate = () => new PendingBytes(-5) });
        _pair.Target.Register("d", -1, 1, new ScriptedDevice("d", _pair.Log, ScriptedDevice.Live));
        _pair.Run();
        Assert.Contains("-5", Assert.IsType<SaveVmException>(_pair.SourceFailure).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_device_that_cannot_be_stopped_fails_the_migration_and_goes_on()
    {
        Devices();
        _pair.SourceOptions = _pair.SourceOptions with { StopDevice = () => throw new InvalidOperationException("stuck") };
        _pair.Run();
        Assert.Contains("could not be stopped", Assert.IsType<SaveVmException>(_pair.SourceFailure).Message, StringComparison.Ordinal);
        Assert.Equal(1, _pair.Log.Count("resume"));
    }

    [Fact]
    public void A_device_that_cannot_be_resumed_is_said_beside_the_failure()
    {
        var (source, _) = Devices();
        source.On(SaveVmHandler.SaveState, (_, _) => throw new InvalidDataException("broken on purpose"));
        _pair.SourceOptions = _pair.SourceOptions with { ResumeDevice = () => throw new InvalidOperationException("stuck") };
        _pair.Run();
        var failure = Assert.IsType<SaveVmException>(_pair.SourceFailure);
        Assert.Contains("broken on purpose", failure.Message, StringComparison.Ordinal);
        Assert.Contains("could not be resumed: stuck", failure.Message, StringComparison.Ordinal);
    }

    // Three devices, of which the middle one misbehaves: those before and after it have their cleanups too.
    private (ScriptedDevice Source, ScriptedDevice Target) Devices()
    {
        _pair.Device("first", ScriptedDevice.Live);
        var (source, target) = _pair.Device("middle", Everything);
        _pair.Device("last", ScriptedDevice.Whole);
        target.On(SaveVmHandler.LoadState, (context, _) => context.ApproveSwitchover());
        _pair.SourceOptions = _pair.SourceOptions with { SwitchoverAck = true };
        _pair.TargetOptions = _pair.TargetOptions with { SwitchoverAck = true };
        return (source, target);
    }

    private void WithoutAck()
    {
        _pair.SourceOptions = _pair.SourceOptions with { SwitchoverAck = false };
        _pair.TargetOptions = _pair.TargetOptions with { SwitchoverAck = false };
    }

    // It notices when it reads on, or when it answers.
    private void AssertTargetLostItsSource()
        => Assert.True(_pair.TargetFailure is StreamException { Reason: StreamError.Truncated } or SaveVmException { Reason: SaveVmError.ConnectionLost }, _pair.TargetFailure?.ToString());

    private void AssertCleanedUp()
    {
        foreach (string device in (string[])["first", "middle", "last"])
        {
            Assert.Equal((1, 1), (_pair.Log.Count($"{device}.SaveCleanup"), _pair.Log.Count($"{device}.LoadCleanup")));
        }

        if (_pair.SourceFailure is not null)
        {
            Assert.Equal(_pair.Log.Count("stop"), _pair.Log.Count("resume"));
            Assert.True(_pair.Log.Count("resume") == 0
                || Array.IndexOf(_pair.Log.Calls, "resume") > Array.IndexOf(_pair.Log.Calls, "last.SaveCleanup"), "The device resumes before its cleanup.");
        }
    }

    private sealed class Silent(CallLog log) : ISaveVmHandlers
    {
        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => log.Add("setup");

        public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context) => false;

        public PendingBytes StatePendingEstimate(SaveVmContext context) => new(long.MaxValue / 4);

        public void SaveCleanup(SaveVmContext context) => log.Add("cleanup");

        public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId) => log.Add("load");
    }
}
