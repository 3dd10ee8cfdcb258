using System.Management.Automation;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>A cmdlet whose work can also go on in the background, as a job.</summary>
public abstract class TransferCmdlet : OperationCmdlet
{
    [Parameter]
    public SwitchParameter AsJob { get; set; }

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
        WriteObject(job);
    }
}
