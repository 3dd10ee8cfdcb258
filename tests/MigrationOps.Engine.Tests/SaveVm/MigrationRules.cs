using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>What holds at the end of every migration, however it went.</summary>
internal static class MigrationRules
{
    /// <summary>Checks a migration that may have been cancelled or have failed.</summary>
    /// <param name="pair">The migration.</param>
    /// <param name="devices">The names of its devices.</param>
    /// <param name="what">What was done to it, for the message.</param>
    /// <param name="answersLost">True if the target's last word may not have reached the source.</param>
    internal static void AssertEnded(MigrationPair pair, IEnumerable<string> devices, string what, bool answersLost = false)
    {
        string all = $"{what}\nsource: {pair.SourceFailure}\ntarget: {pair.TargetFailure}\ncalls: {string.Join(", ", pair.Log.Calls)}";
        foreach (string device in devices)
        {
            Assert.True((pair.Log.Count(device + ".SaveCleanup"), pair.Log.Count(device + ".LoadCleanup")) == (1, 1), $"The cleanups of {device}: {all}");
        }

        // Two devices must never run, and one must always be left.
        Assert.True(pair.SourceFailure is not null || pair.TargetFailure is null, $"The source gave its device up for nothing: {all}");
        Assert.True(pair.SourceFailure is null || pair.Log.Count("stop") == pair.Log.Count("resume"), $"The source's device stands still: {all}");
        Assert.True(pair.SourceFailure is not null || pair.Log.Count("resume") == 0, $"The source's device runs beside the target's: {all}");
        Assert.True(pair.SourceFailure is null || pair.TargetFailure is not null || answersLost || pair.SourceFailure is OperationCanceledException,
            $"The source does not know of its success: {all}");
        AssertNamed(pair.SourceFailure, all);
        AssertNamed(pair.TargetFailure, all);
    }

    // No side may have needed a deadline to notice.
    private static void AssertNamed(Exception? failure, string all)
        => Assert.True(failure is null or OperationCanceledException
            or StreamException or SaveVmException { Reason: not (SaveVmError.PeerSilent or SaveVmError.HandlerTimeout or SaveVmError.SwitchoverAckTimeout or SaveVmError.NoProgress) }, all);
}
