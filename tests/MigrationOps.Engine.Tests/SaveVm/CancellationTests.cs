using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>A cancellation wherever a migration can be: at every byte that either side waits for, and in every call of a handler.</summary>
public class CancellationTests
{
    private static readonly string[] Devices = ["live", "whole"];

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void At_every_byte_that_the_source_sends(bool cancelSource)
    {
        // While a source waits for an acknowledgement it sends any number of sections, so there is none here.
        byte[] stream = Pair(ack: false).Succeed().Sent;
        int end = Array.LastIndexOf(stream, (byte)StreamFormat.Description) - 1;
        for (int at = 1; at <= stream.Length; at++)
        {
            var pair = Pair(ack: false);
            using var cancel = Cancel(pair, cancelSource);
            (pair.HoldAfter, pair.OnHold) = (at, cancel.Cancel);
            pair.Run();
            string what = $"cancelled at byte {at} of {stream.Length}";
            MigrationRules.AssertEnded(pair, Devices, what);
            if (at <= end)
            {
                // The end mark has not passed.
                Assert.IsAssignableFrom<OperationCanceledException>(cancelSource ? pair.SourceFailure : pair.TargetFailure);
                Assert.IsAssignableFrom<MigrationOpsException>(cancelSource ? pair.TargetFailure : pair.SourceFailure);
            }
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void At_every_byte_that_the_target_answers(bool cancelSource)
    {
        int answers = Pair().Succeed().Answered.Length;
        // PONG, the acknowledgement and SHUT.
        Assert.Equal(8 + 4 + 8, answers);
        for (int at = 1; at <= answers; at++)
        {
            var pair = Pair();
            using var cancel = Cancel(pair, cancelSource);
            (pair.HoldAnswersAfter, pair.OnHold) = (at, cancel.Cancel);
            pair.Run();
            MigrationRules.AssertEnded(pair, Devices, $"cancelled at byte {at} of the answers", answersLost: true);
            Assert.True(at == answers || pair.SourceFailure is not null, $"The source has not heard the end: byte {at} of the answers.");
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void In_every_call_of_a_handler_on_either_side(bool cancelSource)
    {
        int at = 0;
        for (int calls = int.MaxValue; at < calls; at++)
        {
            var pair = Pair();
            using var cancel = Cancel(pair, cancelSource);
            int number = at;
            pair.Log.OnCall = call =>
            {
                if (call == number)
                {
                    cancel.Cancel();
                }
            };
            pair.Run();
            MigrationRules.AssertEnded(pair, Devices, $"cancelled in call {at}");
            calls = pair.Log.Calls.Length;
        }

        Assert.InRange(at, 25, 1000);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void At_every_byte_of_a_postcopy_migration(bool cancelSource)
    {
        byte[] stream = Late().Succeed().Sent;
        int answered = stream.AsSpan().IndexOf((ReadOnlySpan<byte>)[8, 0, 2, 0, 4, 0, 0, 0, 2]) + 9;
        int run = stream.AsSpan().IndexOf((ReadOnlySpan<byte>)[8, 0, 5, 0, 0]) + 5;
        for (int at = 1; at <= stream.Length; at++)
        {
            var pair = Late();
            using var cancel = Cancel(pair, cancelSource);
            (pair.HoldAfter, pair.OnHold) = (at, cancel.Cancel);
            pair.Run();
            string what = $"cancelled at byte {at} of {stream.Length}, run at {run}: {pair.SourceFailure} {pair.TargetFailure}";
            bool sourceRuns = pair.Log.Count("stop") == pair.Log.Count("resume");
            Assert.False(sourceRuns && pair.Log.Count("start") > 0, "Both run: " + what);
            // Until the target has answered what comes before the package, the source keeps the device.
            Assert.True(sourceRuns || at >= answered, what);
            Assert.True(at >= run || pair.Log.Count("start") == 0, what);
            Assert.True(at == stream.Length || (pair.SourceFailure is not null && pair.TargetFailure is not null), what);
            using var scope = new TransferScope(TimeSpan.FromSeconds(30));
            Assert.Empty(pair.SourceDriver!.IsPaused ? pair.SourceDriver.Abandon(scope) : []);
            Assert.Empty(pair.TargetDriver!.IsPaused ? pair.TargetDriver.Abandon(scope) : []);
            Assert.True((pair.Log.Count("late.SaveCleanup"), pair.Log.Count("late.LoadCleanup"), pair.Log.Count("whole.SaveCleanup"), pair.Log.Count("whole.LoadCleanup")) == (1, 1, 1, 1), what);
        }
    }

    private static CancellationTokenSource Cancel(MigrationPair pair, bool cancelSource)
    {
        var cancel = new CancellationTokenSource();
        (pair.SourceCancellation, pair.TargetCancellation) = cancelSource ? (cancel.Token, CancellationToken.None) : (CancellationToken.None, cancel.Token);
        return cancel;
    }

    private static MigrationPair Late()
    {
        var pair = new MigrationPair().Postcopy();
        pair.Device("late", ScriptedDevice.Late);
        pair.Device("whole", ScriptedDevice.Whole);
        return pair;
    }

    private static MigrationPair Pair(bool ack = true)
    {
        var pair = new MigrationPair();
        pair.Device("live", ScriptedDevice.Live);
        pair.Device("whole", ScriptedDevice.Whole);
        pair.SourceOptions = pair.SourceOptions with { SwitchoverAck = ack };
        pair.TargetOptions = pair.TargetOptions with { SwitchoverAck = ack };
        return pair;
    }
}
