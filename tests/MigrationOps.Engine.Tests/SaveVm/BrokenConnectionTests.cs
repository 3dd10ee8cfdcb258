using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

[Collection(Alone.Name)]
public class BrokenConnectionTests
{
    [Fact]
    public void A_connection_cut_at_any_byte_ends_both_sides_by_name_with_every_cleanup_and_a_resumed_device()
    {
        var whole = Pair();
        whole.Succeed();
        int end = Array.LastIndexOf(whole.Sent, (byte)StreamFormat.Description) - 1;
        Assert.Equal(0x00, whole.Sent[end]);
        int descriptors = CountDescriptors();
        for (int cut = 0; cut <= end; cut++)
        {
            var pair = Pair();
            pair.CutAfter = cut;
            pair.Run();
            var source = Assert.IsType<SaveVmException>(pair.SourceFailure);
            var target = Assert.IsAssignableFrom<MigrationOpsException>(pair.TargetFailure);
            Assert.True(source.Reason is SaveVmError.ConnectionLost or SaveVmError.TargetFailed, $"{cut}: {source}");
            // The cut may also be noticed while the target answers.
            Assert.True(target.ErrorId == "SaveVmConnectionLost" || (target.ErrorId == "StreamTruncated" && target.ByteOffset == cut), $"{cut}: {target}");
            Assert.Equal((1, 1, 1, 1), (pair.Log.Count("live.SaveCleanup"), pair.Log.Count("live.LoadCleanup"),
                pair.Log.Count("whole.SaveCleanup"), pair.Log.Count("whole.LoadCleanup")));
            Assert.True(pair.Log.Count("stop") == pair.Log.Count("resume"), $"{cut}: stopped and not resumed");
        }

        Assert.InRange(CountDescriptors(), 0, descriptors + 2);
    }

    [Fact]
    public void A_connection_cut_at_any_byte_of_the_answers_never_lets_both_sides_run_and_never_hangs()
    {
        int answers = Acknowledged().Succeed().Answered.Length;
        for (int cut = 0; cut <= answers; cut++)
        {
            var pair = Acknowledged();
            pair.CutAnswersAfter = cut;
            pair.Run();
            MigrationRules.AssertEnded(pair, ["live", "whole"], $"answers cut at {cut}", answersLost: true);
            // The last answer is the target's word that all is well.
            Assert.Equal(cut == answers, pair.SourceFailure is null);
            // The first one allows the switchover.
            Assert.True(cut >= 4 || pair.Log.Count("stop") == 0, $"{cut}: stopped without the acknowledgement");
        }
    }

    [Fact]
    public void A_cut_behind_the_end_mark_loses_nothing_that_the_target_needs()
    {
        var pair = Pair();
        pair.SourceOptions = pair.SourceOptions with { ReturnPath = false };
        byte[] stream = pair.Succeed().Sent;
        int end = Array.LastIndexOf(stream, (byte)StreamFormat.Description);
        for (int length = end; length < stream.Length; length++)
        {
            var log = new CallLog();
            var registry = Registry(log);
            var result = Load(registry, stream[..length]);
            Assert.Equal(length > end, result.Warnings.Length == 1);
            Assert.Equal(1, log.Count("whole.LoadCleanup"));
        }
    }

    [Fact]
    public void A_target_that_stays_silent_after_the_end_mark_fails_the_source_at_the_deadline()
    {
        var log = new CallLog();
        using var scope = new TransferScope(TimeSpan.FromSeconds(1));
        using var listener = Transport.Listen(new Endpoint.Unix("@mo-silent-" + Guid.NewGuid().ToString("N")), TransportSecurity.Default, scope);
        Stream? connection = null;
        var options = new SaveVmSourceOptions { ReturnPath = true, ResumeDevice = () => log.Add("resume") };
        var e = Assert.Throws<SaveVmException>(() => new SaveVmSource(Registry(log), options).Run(
            inner => connection = Transport.Connect(listener.Endpoint, TransportSecurity.Default, inner), scope));
        connection!.Dispose();
        Assert.Equal(SaveVmError.PeerSilent, e.Reason);
        Assert.Equal((1, 1), (log.Count("resume"), log.Count("live.SaveCleanup")));
    }

    [Fact]
    public void A_source_that_stays_silent_fails_the_target_at_the_deadline()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(1));
        using var listener = Transport.Listen(new Endpoint.Unix("@mo-silent-" + Guid.NewGuid().ToString("N")), TransportSecurity.Default, scope);
        using var source = Transport.Connect(listener.Endpoint, TransportSecurity.Default, scope);
        source.Write([0x51, 0x45, 0x56]);
        var log = new CallLog();
        Stream? connection = null;
        var e = Assert.Throws<SaveVmException>(() => new SaveVmTarget(Registry(log), new()).Run(_ => connection = listener.Accept("the source"), scope));
        connection!.Dispose();
        Assert.Equal((SaveVmError.PeerSilent, 3L), (e.Reason, e.ByteOffset));
        Assert.Equal(1, log.Count("live.LoadCleanup"));
    }

    internal static MigrationStreamTransfer Load(SaveVmRegistry registry, byte[] stream, SaveVmTargetOptions? options = null)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var input = new MemoryStream(stream);
        return new SaveVmTarget(registry, options ?? new SaveVmTargetOptions()).Run(_ => input, scope);
    }

    private static MigrationPair Pair()
    {
        var pair = new MigrationPair();
        pair.Device("live", ScriptedDevice.Live);
        pair.Device("whole", ScriptedDevice.Whole);
        return pair;
    }

    private static MigrationPair Acknowledged()
    {
        var pair = Pair();
        pair.SourceOptions = pair.SourceOptions with { SwitchoverAck = true };
        pair.TargetOptions = pair.TargetOptions with { SwitchoverAck = true };
        return pair;
    }

    private static SaveVmRegistry Registry(CallLog log) => Migrations.Registry(
        ("live", new ScriptedDevice("live", log, ScriptedDevice.Live)), ("whole", new ScriptedDevice("whole", log, ScriptedDevice.Whole)));

    private static int CountDescriptors() => Directory.GetFiles("/proc/self/fd").Length;
}
