using System.Diagnostics;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>Threads of a test, and conditions that another thread brings about.</summary>
internal static class Waiting
{
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <summary>Runs something on a thread of its own; the task has its result or failure.</summary>
    internal static Task<T> OnThread<T>(Func<T> run)
        => Task.Factory.StartNew(run, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    internal static Task OnThread(Action run)
        => Task.Factory.StartNew(run, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    /// <summary>The result, or the test fails: nothing may hang.</summary>
    internal static T Result<T>(this Task<T> task, string what)
    {
        Join(task, what);
        return task.GetAwaiter().GetResult();
    }

    internal static void Join(this Task task, string what)
    {
        bool ended = ((IAsyncResult)task).AsyncWaitHandle.WaitOne(Patience);
        Assert.True(ended, $"It hangs: {what}");
        task.GetAwaiter().GetResult();
    }

    internal static void Until(Func<bool> condition, string what) => Until(condition, () => what);

    internal static void Until(Func<bool> condition, Func<string> what)
    {
        var clock = Stopwatch.StartNew();
        // It comes to sleep between two looks, and leaves the processor to who brings the condition about.
        var pause = new SpinWait();
        while (!condition())
        {
            Assert.True(clock.Elapsed < Patience, $"It never came: {what()}");
            pause.SpinOnce();
        }
    }
}
