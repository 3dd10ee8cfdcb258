using System.Management.Automation;
using MigrationOps.Engine.Qmp;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommon.Get, "QemuMigration")]
[OutputType(typeof(QemuMigrationStatus))]
public sealed class GetQemuMigration : MonitorCmdlet
{
    private readonly List<(object Monitor, PSObject? Wrapped)> _watched = [];

    [Parameter]
    public SwitchParameter Watch { get; set; }

    [Parameter]
    [Seconds]
    public TimeSpan? Interval { get; set; }

    protected override bool OnlyReads => true;

    protected override Action<IOperationHost>? Prepare()
    {
        if (!Watch)
        {
            return WithMonitor(async use => use.Host.WriteObject(await new MigrationWatch(use.Engine, use.VM).SampleAsync(use.Host.CancellationToken).ConfigureAwait(false)));
        }

        _watched.Add(((Monitor as PSObject)?.BaseObject ?? Monitor, Monitor as PSObject));
        return null;
    }

    protected override Action<IOperationHost>? PrepareEnd() => _watched.Count == 0 ? null
        : host => Task.WhenAll(_watched.Select((monitor, i) => FollowAsync(host, monitor.Monitor, monitor.Wrapped, i))).GetAwaiter().GetResult();

    // Each monitor fails for itself: the others continue.
    private async Task FollowAsync(IOperationHost host, object monitor, PSObject? wrapped, int number)
    {
        try
        {
            await UseAsync(host, monitor, wrapped, async use =>
            {
                var watch = new MigrationWatch(use.Engine, use.VM) { Interval = Interval < MigrationWatch.ShortestInterval ? MigrationWatch.ShortestInterval : Interval, StartTimeout = Timeout };
                var progress = new ProgressRecord(number + 1, $"Migration of {use.VM ?? use.Engine.Name}", "waits");
                await foreach (var sample in watch.WatchAsync(host.CancellationToken).ConfigureAwait(false))
                {
                    host.WriteObject(sample);
                    MigrationProgress.Show(host, progress, sample);
                }

                progress.RecordType = ProgressRecordType.Completed;
                host.WriteProgress(progress);
            }).ConfigureAwait(false);
        }
        catch (MigrationOpsException e)
        {
            host.WriteError(ErrorMap.ToErrorRecord(e, monitor));
        }
    }
}
