using System.Diagnostics;
using MigrationOps.Engine.Relay;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Tests.Vfio;

namespace MigrationOps.Engine.Tests.Relay;

/// <summary>How fast bytes pass, and when they do not.</summary>
public class RelayFlowTests
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public void Bytes_pass_no_faster_than_the_limit_over_all_threads_together()
    {
        var flow = new RelayFlow(1 << 20);
        var clock = Stopwatch.StartNew();
        var threads = Enumerable.Range(0, 4).Select(_ => Waiting.OnThread(() =>
        {
            for (int left = 64 << 10; left > 0;)
            {
                left -= flow.Take(left, isLimited: true, Cancelled);
            }
        })).ToList();
        threads.ForEach(thread => thread.Join("the bytes pass"));
        // 256 KiB at 1 MiB/s; the first piece passes at once.
        Assert.True(clock.Elapsed >= TimeSpan.FromMilliseconds(200), $"{clock.Elapsed}");
    }

    [Fact]
    public void Nothing_passes_a_black_hole_until_it_is_released()
    {
        var flow = new RelayFlow(null);
        flow.Close();
        var passing = Waiting.OnThread(() => flow.Take(10, isLimited: false, Cancelled));
        Assert.False(passing.IsCompleted);
        flow.Release();
        Assert.Equal(10, passing.Result("the bytes pass"));
        Assert.Equal(10, flow.Take(10, isLimited: false, Cancelled));
    }

    [Fact]
    public void A_relay_that_is_stopped_in_a_migration_leaves_no_descriptor_thread_or_socket_file()
    {
        var capture = new Capture(Capture.ConfigFirst);
        void Use()
        {
            using var rig = new RelayRig(new RelayOptions { Listen = null!, Target = null!, Faults = [new(RelayFaultKind.Hold, RelayPoint.Switchover)] });
            rig.Send(capture.Main);
            capture.Channels.ForEach(channel => rig.Send(channel));
            rig.WaitFor(s => s.Struck.Count == 1);
            rig.Relay.Dispose();
            Assert.Equal(RelayError.Stopped, Assert.IsType<RelayException>(rig.Relay.Status.Failure).Reason);
        }

        Use();
        int before = Directory.GetFiles("/proc/self/fd").Length;
        for (int i = 0; i < 5; i++)
        {
            Use();
        }

        Waiting.Until(() => Directory.GetFiles("/proc/self/fd").Length <= before + 3, "the descriptors are closed");
    }
}
