using System.Management.Automation;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>A cmdlet whose work can also run in the background, as a job.</summary>
public abstract class TransferCmdlet : OperationCmdlet
{
    [Parameter]
    public SwitchParameter AsJob { get; set; }

    /// <summary>
    /// True for work that listens for a peer: its job is given back when the address is listened on, because the next command of a
    /// script lets the peer connect.
    /// </summary>
    private protected virtual bool Listens => false;

    /// <summary>True for an address on which a receiver listens; files and descriptors are there already.</summary>
    private protected static bool IsSocket(string? uri)
        => uri?.StartsWith("unix:", StringComparison.Ordinal) == true || uri?.StartsWith("tcp:", StringComparison.Ordinal) == true;

    protected override void Execute(Action<IOperationHost> work)
    {
        if (!AsJob)
        {
            base.Execute(work);
            return;
        }

        var job = new OperationJob(MyInvocation.Line.Trim(), Environment.MachineName, FileLogger(), DetachLog());
        JobRepository.Add(job);
        job.Start(work);
        if (Listens)
        {
            job.WaitUntilListening();
        }

        WriteObject(job);
    }
}
