using System.Management.Automation;
using Microsoft.Extensions.Logging;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// What engine work sees of PowerShell while it runs on a thread of its own: the same for a pipeline and for a job.
/// Every member may be called from any thread.
/// </summary>
public interface IOperationHost
{
    /// <summary>Cancelled by Ctrl-C, Stop-Job or the end of the pipeline.</summary>
    CancellationToken CancellationToken { get; }

    /// <summary>Goes to Verbose, Debug and Warning, and to the file of -LogPath.</summary>
    ILogger Logger { get; }

    /// <summary>Puts an object on the pipeline.</summary>
    void WriteObject(object value);

    /// <summary>Puts an error on the error stream; the operation continues.</summary>
    void WriteError(ErrorRecord error);

    /// <summary>A receiver listens now: whoever waits for the job may let the peer connect.</summary>
    void Listening();

    /// <summary>Shows progress.</summary>
    void WriteProgress(ProgressRecord progress);

    /// <summary>
    /// Runs something on the pipeline's thread, where alone the user's script blocks may run, and waits for it. A job has
    /// no pipeline and refuses.
    /// </summary>
    /// <exception cref="OperationCanceledException">The pipeline ends.</exception>
    /// <exception cref="NotSupportedException">There is no pipeline.</exception>
    T Invoke<T>(Func<T> action);
}
