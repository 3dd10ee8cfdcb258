using System.Collections.Concurrent;
using System.Management.Automation;
using Microsoft.Extensions.Logging;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// Runs engine work as a task, and does what it wants of the pipeline on the pipeline's own thread, in order: PowerShell
/// allows Write* nowhere else.
/// </summary>
internal sealed class PipelineHost(PSCmdlet cmdlet, JsonLinesLog.Logger? fileLog, CancellationToken cancellationToken) : IOperationHost
{
    private readonly BlockingCollection<Posted> _queue = [];

    private static readonly ScriptBlock Drain = ScriptBlock.Create("param($drain, $last) try { $drain.Invoke() } finally { $last.Invoke() }");

    // Set once the queue is no longer read, so that no thread waits for an action that will never run.
    private readonly TaskCompletionSource _abandoned = new();

    // Whoever is in the pipeline waits for the end.
    public void Listening()
    {
    }

    public CancellationToken CancellationToken => cancellationToken;

    public ILogger Logger => field ??= new StreamLogger(action => Post(action), cmdlet.WriteVerbose, cmdlet.WriteDebug, cmdlet.WriteWarning, fileLog);

    public void WriteObject(object value) => Post(() => cmdlet.WriteObject(CmdletWords.In(value)));

    public void WriteError(ErrorRecord error)
    {
        OperationLog.Failed(fileLog, error);
        Post(() => cmdlet.WriteError(error));
    }

    public void WriteProgress(ProgressRecord progress) => Post(() => cmdlet.WriteProgress(progress));

    public T Invoke<T>(Func<T> action)
    {
        var result = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        Post(() =>
        {
            try
            {
                result.SetResult(action());
            }
            catch (PipelineStoppedException)
            {
                result.SetCanceled(CancellationToken.None);
                throw;
            }
            catch (Exception e)
            {
                result.SetException(e);
            }
        }, isInvocation: true);
        Task.WaitAny(result.Task, _abandoned.Task);
        return result.Task.IsCompleted ? result.Task.GetAwaiter().GetResult()
            : throw new OperationCanceledException("The pipeline has ended.");
    }

    /// <summary>Runs the work to its end. To be called on the pipeline's thread.</summary>
    internal void Run(Action<IOperationHost> work)
    {
        var task = Start(work);
        try
        {
            foreach (var posted in _queue.GetConsumingEnumerable())
            {
                posted.Action();
            }
        }
        catch
        {
            // The pipeline has ended under us (Ctrl-C, Select-Object -First, ErrorAction Stop). The work has been
            // cancelled or will be by the caller; wait for it, so that nothing of it outlives the cmdlet.
            _abandoned.TrySetResult();
            Ended?.Invoke();
            Task.WaitAny(task);
            throw;
        }

        task.GetAwaiter().GetResult();
    }

    /// <summary>
    /// Runs work that invokes the user's script blocks, so that those of its cleanup run even when the pipeline is stopped: PowerShell
    /// starts nothing in a stopped pipeline, except for what is called out of a finally block.
    /// </summary>
    internal void RunWithScripts(Action<IOperationHost> work)
    {
        var task = Start(work);
        Posted? kept = null;
        Action drain = () =>
        {
            foreach (var posted in _queue.GetConsumingEnumerable())
            {
                if (cmdlet.Stopping)
                {
                    kept = posted;
                    throw new PipelineStoppedException();
                }

                posted.Action();
            }
        };
        Action last = () =>
        {
            if (!task.IsCompleted || kept is not null || _queue.Count > 0)
            {
                Ended?.Invoke();
            }

            // Output has nowhere to go any more, but a cleanup has its turn.
            foreach (var posted in _queue.GetConsumingEnumerable().Prepend(kept ?? Posted.Nothing))
            {
                if (posted.IsInvocation)
                {
                    posted.Action();
                }
            }
        };
        cmdlet.InvokeCommand.InvokeScript(false, Drain, null, drain, last);
        task.GetAwaiter().GetResult();
    }

    private Task Start(Action<IOperationHost> work)
    {
        var task = Task.Factory.StartNew(() => work(this), CancellationToken.None,
            TaskCreationOptions.LongRunning, TaskScheduler.Default);
        _ = task.ContinueWith(_ => _queue.CompleteAdding(), CancellationToken.None,
            TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        return task;
    }

    /// <summary>Called when the pipeline refuses more output; cancels the work.</summary>
    internal event Action? Ended;

    private void Post(Action action, bool isInvocation = false)
    {
        try
        {
            _queue.Add(new Posted(action, isInvocation), CancellationToken.None);
        }
        catch (InvalidOperationException)
        {
            // Only the work posts, and adding completes after it; a late logger of a dying thread has no reader left.
        }
    }

    private sealed record Posted(Action Action, bool IsInvocation)
    {
        internal static readonly Posted Nothing = new(static () => { }, false);
    }
}
