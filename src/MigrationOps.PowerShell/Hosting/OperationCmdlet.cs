using System.Management.Automation;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Wire;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// The base of every cmdlet that lets the engine work. A cmdlet says in <see cref="Prepare"/> what is to be done with one
/// pipeline object; that runs as a task, what it wants of the pipeline happens on the pipeline's thread, Ctrl-C cancels
/// it, and a failure becomes an error record after which the next object has its turn.
/// </summary>
public abstract class OperationCmdlet : PSCmdlet, IDisposable
{
    private readonly CancellationTokenSource _stop = new();
    private JsonLinesLog? _log;

    [Parameter]
    [Seconds]
    [ValidateNotNull]
    public TimeSpan Timeout { get; set; } = TransferScope.DefaultTimeout;

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? LogPath { get; set; }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Looks at the parameters for one pipeline object, asks ShouldProcess, and gives the work to be done.</summary>
    /// <returns>Null if there is nothing to do.</returns>
    protected abstract Action<IOperationHost>? Prepare();

    /// <summary>What an error is about, if the failure itself does not say.</summary>
    protected virtual object? Target => null;

    protected sealed override void BeginProcessing()
    {
        SecondsAttribute.CheckTimeout(this, Timeout);
        if (LogPath is not null)
        {
            OpenLog(ResolvePath(LogPath));
        }
    }

    /// <summary>The same after the last pipeline object, for cmdlets that first collect and then do everything at once.</summary>
    protected virtual Action<IOperationHost>? PrepareEnd() => null;

    protected sealed override void ProcessRecord() => Process(Prepare);

    protected sealed override void EndProcessing() => Process(PrepareEnd);

    protected sealed override void StopProcessing() => _stop.Cancel();

    /// <summary>True if the work that was prepared invokes the user's script blocks.</summary>
    protected virtual bool InvokesScripts => false;

    /// <summary>Runs the work; a base for cmdlets that can do it elsewhere.</summary>
    protected virtual void Execute(Action<IOperationHost> work)
    {
        var host = new PipelineHost(this, FileLogger(), _stop.Token);
        host.Ended += _stop.Cancel;
        if (InvokesScripts)
        {
            host.RunWithScripts(work);
        }
        else
        {
            host.Run(work);
        }
    }

    /// <summary>The work, if the user agrees to it.</summary>
    private protected Action<IOperationHost>? IfConfirmed(string target, string action, Action<IOperationHost> work)
        => ShouldProcess(target, action) ? work : null;

    /// <summary>A scope with the deadline of -Timeout, for work that a host runs.</summary>
    private protected TransferScope NewScope(
        IOperationHost host, ProgressRule rule = ProgressRule.EachConnection, Action<long>? progress = null)
        => new(Timeout, rule, host.CancellationToken) { Progress = progress };

    /// <summary>A path as the user means it: relative to the current location, drives and ~ resolved.</summary>
    protected string ResolvePath(string path) => GetUnresolvedProviderPathFromPSPath(path);

    /// <summary>A URI whose path, if it has one, is as the user means it.</summary>
    protected Endpoint ResolveEndpoint(string uri) => Endpoint.Parse(uri) switch
    {
        Endpoint.Unix { Path: not ['@', ..] } unix => new Endpoint.Unix(ResolvePath(unix.Path)),
        Endpoint.File file => file with { Path = ResolvePath(file.Path) },
        var other => other,
    };

    /// <summary>The logger behind -LogPath for this cmdlet, or null.</summary>
    private protected JsonLinesLog.Logger? FileLogger()
    {
        // The job of an earlier pipeline object may have taken its log with it.
        if (LogPath is not null && _log is null)
        {
            OpenLog(ResolvePath(LogPath));
        }

        return _log?.For(MyInvocation.MyCommand.Name);
    }

    /// <summary>Hands the log file over to work that outlives the cmdlet.</summary>
    protected IDisposable? DetachLog()
    {
        var log = _log;
        _log = null;
        return log;
    }

    protected virtual void Dispose(bool disposing)
    {
        if (disposing)
        {
            _log?.Dispose();
            _stop.Dispose();
        }
    }

    private void Process(Func<Action<IOperationHost>?> prepare)
    {
        try
        {
            if (prepare() is { } work)
            {
                Execute(host => Guard(work, host));
            }
        }
        catch (MigrationOpsException e)
        {
            var error = ErrorMap.ToErrorRecord(e, Target);
            OperationLog.Failed(FileLogger(), error);
            WriteError(error);
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            throw new PipelineStoppedException();
        }
    }

    private void Guard(Action<IOperationHost> work, IOperationHost host)
    {
        try
        {
            work(host);
        }
        catch (MigrationOpsException e)
        {
            host.WriteError(ErrorMap.ToErrorRecord(e, Target));
        }
    }

    private void OpenLog(string path)
    {
        try
        {
            _log = new JsonLinesLog(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Refuse(e, "LogPathUnusable", ErrorCategory.OpenError, path, "Give the name of a file in a directory that exists and may be written.");
        }
    }

    private void Refuse(Exception reason, string errorId, ErrorCategory category, object target, string recommendedAction)
        => ThrowTerminatingError(new ErrorRecord(reason, errorId, category, target)
        {
            ErrorDetails = new ErrorDetails(reason.Message) { RecommendedAction = recommendedAction },
        });
}
