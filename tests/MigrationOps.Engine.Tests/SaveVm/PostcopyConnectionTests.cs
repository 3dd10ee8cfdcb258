using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>Connections that break at every byte: at most one side runs, nothing hangs, and what can be resumed is complete afterwards.</summary>
public class PostcopyConnectionTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_connection_cut_at_any_byte_leaves_one_owner_and_can_be_resumed_once_the_target_runs(bool answersArrive)
    {
        byte[] whole = Pair(out _).Succeed().Sent;
        int run = whole.AsSpan().IndexOf((ReadOnlySpan<byte>)[8, 0, 5, 0, 0]) + 5;
        for (int cut = 0; cut <= whole.Length; cut++)
        {
            var pair = Pair(out var devices);
            pair.CutAfter = cut;
            pair.AnswersOutliveTheCut = answersArrive;
            pair.Run();
            string what = $"cut at {cut} of {whole.Length}, run at {run}: {pair.SourceFailure} {pair.TargetFailure}";
            bool started = pair.Log.Count("start") == 1;
            // A target that cannot answer the pings before RUN never obeys a RUN that is there.
            Assert.True(answersArrive ? started == (cut >= run) : cut >= run || !started, what);
            AssertOneOwner(pair, what);
            if (answersArrive)
            {
                Assert.True(cut < whole.Length || pair.TargetFailure is null, what);
                var owner = (pair.SourceFailure as MigrationOpsException)?.Owner ?? pair.SourceResult!.Owner;
                // A package without RUN is not loaded at all, so the target has not said that it was.
                Assert.True(owner == (started ? MigrationOwner.Target : MigrationOwner.Source), what);
            }

            if (pair.TargetFailure is null)
            {
                // The target has everything; only its answer may be lost.
                Assert.True(cut == whole.Length && started, what);
            }
            else if (started)
            {
                Assert.Equal(("SaveVmPostcopyPaused", MigrationOwner.Target), PostcopyTests.Reason(pair.TargetFailure));
                Assert.True(pair.TargetDriver!.IsPaused && pair.SourceDriver!.IsPaused, what);
                pair.CutAfter = null;
                pair.Resume().AssertSucceeded();
                Assert.Equal((1, 1), (pair.SourceResult!.Recoveries, pair.TargetResult!.Recoveries));
                Assert.All(devices, d => Assert.Equal(d.Source.State, d.Target.Loaded));
            }
            else
            {
                Assert.Equal(MigrationOwner.Source, Assert.IsAssignableFrom<MigrationOpsException>(pair.TargetFailure).Owner);
                Assert.False(pair.TargetDriver!.IsPaused, what);
            }

            GiveUpIfPaused(pair);
            AssertCleanedUp(pair, devices, what);
        }
    }

    [Fact]
    public void A_recovery_cut_at_any_byte_pauses_again_and_the_next_one_completes()
    {
        byte[] first = Pair(out _).Succeed().Sent;
        int middle = first.Length - 20;
        var whole = Pair(out _);
        (whole.CutAfter, whole.AnswersOutliveTheCut) = (middle, true);
        whole.Run();
        whole.CutAfter = null;
        int length = whole.Resume().AssertSucceeded().Sent.Length;
        for (int cut = 0; cut < length; cut++)
        {
            var pair = Pair(out var devices);
            (pair.CutAfter, pair.AnswersOutliveTheCut) = (middle, true);
            pair.Run();
            pair.AnswersOutliveTheCut = false;
            pair.CutAfter = cut;
            pair.Resume();
            string what = $"cut at {cut} of {length}: {pair.SourceFailure} {pair.TargetFailure}";
            Assert.True(pair.SourceFailure is SaveVmException { Reason: SaveVmError.PostcopyPaused, Owner: MigrationOwner.Target }, what);
            Assert.True(pair.TargetFailure is SaveVmException { Reason: SaveVmError.PostcopyPaused, Owner: MigrationOwner.Target }, what);
            pair.CutAfter = null;
            pair.Resume().AssertSucceeded();
            Assert.All(devices, d => Assert.Equal(d.Source.State, d.Target.Loaded));
            Assert.Equal((1, 0, 1), (pair.Log.Count("stop"), pair.Log.Count("resume"), pair.Log.Count("start")));
            AssertCleanedUp(pair, devices, what);
        }
    }

    [Fact]
    public void A_recovery_starts_with_resume_and_counts_every_byte()
    {
        byte[] first = Pair(out _).Succeed().Sent;
        var pair = Pair(out _);
        (pair.CutAfter, pair.AnswersOutliveTheCut) = (first.Length - 20, true);
        pair.Run();
        long sentBefore = ((SaveVmException)pair.TargetFailure!).ByteOffset!.Value;
        pair.CutAfter = null;
        pair.Resume().AssertSucceeded();
        Assert.Equal(Convert.ToHexString([8, 0, 9, 0, 0]), Convert.ToHexString(pair.Sent.AsSpan(0, 5)));
        Assert.True(pair.TargetResult!.Bytes >= sentBefore - 20 + pair.Sent.Length, $"{pair.TargetResult.Bytes} {sentBefore} {pair.Sent.Length}");
    }

    [Fact]
    public void A_target_that_is_silent_before_the_hand_over_leaves_the_vm_here()
    {
        var (failure, source, log) = AgainstAnswers([]);
        Assert.Equal((SaveVmError.PeerSilent, MigrationOwner.Source), (failure.Reason, failure.Owner));
        Assert.Equal((false, 1, 1), (source.IsPaused, log.Count("late.SaveCleanup"), log.Count("resume")));
    }

    [Fact]
    public void A_target_that_is_silent_after_the_hand_over_pauses_the_source_which_cannot_say_whose_the_vm_is()
    {
        var (failure, source, log) = AgainstAnswers([0, 2, 0, 4, 0, 0, 0, 2]);
        Assert.Equal((SaveVmError.PostcopyPaused, MigrationOwner.Unknown), (failure.Reason, failure.Owner));
        Assert.Equal(SaveVmError.PeerSilent, Assert.IsType<SaveVmException>(failure.InnerException).Reason);
        GiveUp(source, log);
    }

    [Fact]
    public void A_target_that_fails_after_the_hand_over_and_before_it_runs_gives_the_vm_back()
    {
        var (failure, source, log) = AgainstAnswers([0, 2, 0, 4, 0, 0, 0, 2, 0, 1, 0, 4, 0, 0, 0, 1]);
        Assert.Equal((SaveVmError.TargetFailed, MigrationOwner.Source), (failure.Reason, failure.Owner));
        Assert.Equal((false, 1, 1), (source.IsPaused, log.Count("late.SaveCleanup"), log.Count("resume")));
    }

    [Fact]
    public void A_target_that_fails_once_it_may_run_keeps_the_device_stopped_here()
    {
        var (failure, source, log) = AgainstAnswers([0, 2, 0, 4, 0, 0, 0, 2, 0, 2, 0, 4, 0, 0, 0, 3, 0, 1, 0, 4, 0, 0, 0, 1]);
        Assert.Equal((SaveVmError.PostcopyPaused, MigrationOwner.Unknown), (failure.Reason, failure.Owner));
        Assert.Equal(SaveVmError.TargetFailed, Assert.IsType<SaveVmException>(failure.InnerException).Reason);
        GiveUp(source, log);
    }

    // A target that says these bytes when the device stops, reads nothing and closes nothing.
    private static (SaveVmException Failure, SaveVmSource Source, CallLog Log) AgainstAnswers(byte[] answers)
    {
        var log = new CallLog();
        using var scope = new TransferScope(TimeSpan.FromSeconds(2));
        using var listener = Transport.Listen(new Endpoint.Unix("@mo-silent-" + Guid.NewGuid().ToString("N")), TransportSecurity.Default, scope);
        Stream? connection = null;
        Stream? target = null;
        var source = new SaveVmSource(Migrations.Registry(("late", new ScriptedDevice("late", log, ScriptedDevice.Late))), new()
        {
            ReturnPath = true,
            Postcopy = true,
            PostcopyAfter = 0,
            DowntimeLimit = TimeSpan.Zero,
            StopDevice = () => target!.Write(answers),
            ResumeDevice = () => log.Add("resume"),
        });
        try
        {
            var failure = Assert.Throws<SaveVmException>(() => source.Run(inner =>
            {
                connection = Transport.Connect(listener.Endpoint, TransportSecurity.Default, inner);
                target = listener.Accept("the source");
                return connection;
            }, scope));
            return (failure, source, log);
        }
        finally
        {
            connection?.Dispose();
            target?.Dispose();
        }
    }

    private static void GiveUp(SaveVmSource source, CallLog log)
    {
        Assert.True(source.IsPaused);
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        Assert.Empty(source.Abandon(scope));
        Assert.Equal((1, 0), (log.Count("late.SaveCleanup"), log.Count("resume")));
    }

    private static MigrationPair Pair(out (ScriptedDevice Source, ScriptedDevice Target)[] devices)
    {
        var pair = new MigrationPair().Postcopy();
        devices = [pair.Device("late", ScriptedDevice.Late), pair.Device("whole", ScriptedDevice.Whole)];
        return pair;
    }

    private static void AssertOneOwner(MigrationPair pair, string what)
    {
        bool sourceRuns = pair.Log.Count("stop") == pair.Log.Count("resume");
        Assert.False(sourceRuns && pair.Log.Count("start") > 0, "Both run: " + what);
        var owner = (pair.SourceFailure as MigrationOpsException)?.Owner ?? pair.SourceResult!.Owner;
        Assert.True(sourceRuns == (owner == MigrationOwner.Source), what);
    }

    private static void GiveUpIfPaused(MigrationPair pair)
    {
        if (pair.SourceDriver!.IsPaused)
        {
            using var scope = new TransferScope(TimeSpan.FromSeconds(60));
            Assert.Empty(pair.SourceDriver.Abandon(scope));
        }
    }

    private static void AssertCleanedUp(MigrationPair pair, (ScriptedDevice, ScriptedDevice)[] devices, string what)
    {
        Assert.Equal(2, devices.Length);
        Assert.True((pair.Log.Count("late.SaveCleanup"), pair.Log.Count("late.LoadCleanup"), pair.Log.Count("whole.SaveCleanup"), pair.Log.Count("whole.LoadCleanup")) == (1, 1, 1, 1), what);
    }
}
