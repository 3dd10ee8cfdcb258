using System.Management.Automation;
using Microsoft.Extensions.Logging;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>Engine work in the background: its streams are the job's, and Stop-Job cancels it.</summary>
internal sealed class OperationJob : Job, IOperationHost
{
    private readonly CancellationTokenSource _stop = new();
    private readonly JsonLinesLog.Logger? _fileLog;
    private readonly IDisposable? _ownedLog;
    private readonly StreamLogger _logger;
    private readonly ManualResetEventSlim _workEnded = new();
    private readonly ManualResetEventSlim _listens = new();
    private readonly Lock _gate = new();
    private volatile bool _failed;
    private bool _ended;
    private bool _disposed;

    internal OperationJob(string command, string location, JsonLinesLog.Logger? fileLog, IDisposable? ownedLog)
        : base(command, null)
    {
        Location = location;
        _fileLog = fileLog;
        _ownedLog = ownedLog;
        PSJobTypeName = "MigrationOps";
        _logger = new StreamLogger(static action => action(),
            text => Verbose.Add(new VerboseRecord(text)),
            text => Debug.Add(new DebugRecord(text)),
            text => Warning.Add(new WarningRecord(text)), _fileLog);
    }

    public override string Location { get; }

    public override string StatusMessage => JobStateInfo.Reason?.Message ?? "";

    public override bool HasMoreData
        => Output.Count + Error.Count + Verbose.Count + Debug.Count + Warning.Count + Progress.Count > 0;

    CancellationToken IOperationHost.CancellationToken => _stop.Token;

    ILogger IOperationHost.Logger => _logger;

    void IOperationHost.WriteObject(object value) => Output.Add(PSObject.AsPSObject(CmdletWords.In(value)));

    void IOperationHost.WriteError(ErrorRecord error)
    {
        OperationLog.Failed(_fileLog, error);
        Error.Add(error);
        _failed = true;
    }

    void IOperationHost.Listening() => _listens.Set();

    /// <summary>Waits until its work listens for a peer, or has ended.</summary>
    internal void WaitUntilListening() => _listens.Wait();

    T IOperationHost.Invoke<T>(Func<T> action)
        => throw new NotSupportedException("A job has no pipeline in which a script block could run.");

    void IOperationHost.WriteProgress(ProgressRecord progress) => Progress.Add(progress);

    internal void Start(Action<IOperationHost> work)
    {
        SetJobState(JobState.Running);
        _ = Task.Factory.StartNew(() => Run(work), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    public override void StopJob()
    {
        lock (_gate)
        {
            // A job that has just ended must not be stopping for ever.
            if (_ended)
            {
                return;
            }

            SetJobState(JobState.Stopping);
            _stop.Cancel();
        }

        Finished.WaitOne();
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing && !_disposed)
        {
            _disposed = true;

            // Not for the end of the thread: Receive-Job -AutoRemoveJob disposes the job out of its last change of
            // state, which is announced on that thread.
            _stop.Cancel();
            _workEnded.Wait();
            _stop.Dispose();
        }

        base.Dispose(disposing);
    }

    private void Run(Action<IOperationHost> work)
    {
        var end = JobState.Completed;
        try
        {
            work(this);
            end = _failed ? JobState.Failed : JobState.Completed;
        }
        catch (OperationCanceledException)
        {
            end = JobState.Stopped;
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            end = JobState.Failed;
            ((IOperationHost)this).WriteError(ErrorMap.ToErrorRecord(e, null));
        }
        finally
        {
            _ownedLog?.Dispose();
            lock (_gate)
            {
                _ended = true;
            }

            _listens.Set();
            _workEnded.Set();
            SetJobState(end);
        }
    }
}
