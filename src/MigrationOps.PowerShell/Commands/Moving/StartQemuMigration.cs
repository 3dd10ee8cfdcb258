using System.Globalization;
using System.Management.Automation;
using MigrationOps.Engine.Moving;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Start, "QemuMigration", SupportsShouldProcess = true, DefaultParameterSetName = MonitorSet)]
[OutputType(typeof(QemuMigrationResult), typeof(Job))]
public sealed class StartQemuMigration : TransferCmdlet
{
    private const string MonitorSet = "Monitor";
    private const string ReportSet = "Report";
    private const string FileSet = "File";

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = MonitorSet)]
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = FileSet)]
    [Parameter(ParameterSetName = ReportSet)]
    [Alias("Source")]
    [ValidateNotNull]
    public object? Monitor { get; set; }

    [Parameter(Mandatory = true, Position = 1, ParameterSetName = MonitorSet)]
    [Parameter(ParameterSetName = ReportSet)]
    [ValidateNotNull]
    public new object? Target { get; set; }

    [Parameter(Mandatory = true, ValueFromPipeline = true, ParameterSetName = ReportSet)]
    [ValidateNotNull]
    public object? Report { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = FileSet)]
    [ValidateNotNullOrEmpty]
    public string? Path { get; set; }

    [Parameter(ParameterSetName = MonitorSet)]
    [Parameter(ParameterSetName = ReportSet)]
    [ValidateNotNullOrEmpty]
    public string? Uri { get; set; }

    [Parameter(ParameterSetName = MonitorSet)]
    [Parameter(ParameterSetName = ReportSet)]
    [ValidateNotNullOrEmpty]
    public string? ConnectUri { get; set; }

    [Parameter]
    [Seconds]
    [ValidateNotNull]
    public TimeSpan DowntimeLimit { get; set; } = TimeSpan.FromMilliseconds(300);

    [Parameter]
    [Seconds]
    [ValidateNotNull]
    public TimeSpan MaxDowntime { get; set; } = TimeSpan.FromSeconds(2);

    [Parameter]
    [Seconds]
    public TimeSpan? MaxDuration { get; set; }

    [Parameter]
    [Seconds]
    [ValidateNotNull]
    public TimeSpan NoProgressTimeout { get; set; } = TimeSpan.FromSeconds(30);

    [Parameter]
    [ValidateRange(1, long.MaxValue)]
    public long? MaxBandwidth { get; set; }

    [Parameter]
    [ValidateRange(1, long.MaxValue)]
    public long? SwitchoverBandwidth { get; set; }

    [Parameter]
    [ValidateNotNull]
    public MigrationStallAction[] OnStall { get; set; } = [MigrationStallAction.RaiseDowntime, MigrationStallAction.Cancel];

    [Parameter(ParameterSetName = MonitorSet)]
    [Parameter(ParameterSetName = ReportSet)]
    public SwitchParameter AllowPostcopy { get; set; }

    [Parameter]
    public SwitchParameter Hold { get; set; }

    [Parameter]
    [ValidateRange(0, 255)]
    public int Channels { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Compression { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? TlsCredential { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? TlsHostName { get; set; }

    [Parameter]
    public SwitchParameter AllowPlaintext { get; set; }

    [Parameter]
    public SwitchParameter KeepSource { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Journal { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? TargetLog { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    protected override Action<IOperationHost>? Prepare()
    {
        var report = Report is null ? null : PlainRecords.Read<QemuMigrationReport>(Report)
            ?? throw new MoveException(MoveError.InvalidOption, $"Expected the report of a pre-flight, found {((Report as PSObject)?.BaseObject ?? Report).GetType().Name}.",
                action: "Give what Test-QemuMigration gave, or -Monitor and -Target.");
        CheckReport(report);
        var source = Monitor is null ? GivenMonitor.OfReport(report!.Source, ResolvePath) : GivenMonitor.Of(Monitor, ResolvePath);
        var target = ParameterSetName == FileSet ? null : Target is null ? GivenMonitor.OfReport(report!.Target, ResolvePath) : GivenMonitor.Of(Target, ResolvePath);
        var options = NewOptions(report);
        var timeout = Timeout;
        var session = RunspaceSession.Current;
        string to = target?.Uri ?? Path!;
        return IfConfirmed(source.Uri, $"Migrate the VM to {to}", host => RunAsync(host, session, source, target, to, options, timeout).GetAwaiter().GetResult());
    }

    private void CheckReport(QemuMigrationReport? report)
    {
        if (report is null || Force)
        {
            return;
        }

        if (!report.CanMigrate)
        {
            var against = report.Checks.Where(check => check.Status == QemuCheckStatus.Blocker || check is { Status: QemuCheckStatus.Unknown, Group: QemuCheckGroup.Truth });
            throw new MoveException(MoveError.Blocked, $"{report.VM ?? report.Source}: the pre-flight found what forbids the migration: {string.Join("; ", against)}") { Target = report };
        }

        if (report.TargetIsHost && Target is null)
        {
            throw new MoveException(MoveError.InvalidOption, $"The pre-flight was for the host {report.Target}, on which no QEMU waited.",
                action: "Start the target there with the VM's arguments and -incoming defer, and give its monitor as -Target.")
            { Target = report };
        }
    }

    private MoveOptions NewOptions(QemuMigrationReport? report)
    {
        string? log = TargetLog is null ? null : ResolvePath(TargetLog);
        string? connect = ConnectUri;
        return new MoveOptions
        {
            Source = null!,
            Mode = ParameterSetName == FileSet ? QemuMigrationMode.File : QemuMigrationMode.Normal,
            Uri = ParameterSetName == FileSet ? "file:" + ResolvePath(Path!) : Uri,
            Route = connect is null ? null : _ => ValueTask.FromResult(connect),
            DowntimeLimit = MyInvocation.BoundParameters.ContainsKey(nameof(DowntimeLimit)) ? DowntimeLimit : report?.DowntimeLimit ?? DowntimeLimit,
            MaxDowntime = MaxDowntime > DowntimeLimit ? MaxDowntime : DowntimeLimit,
            MaxDuration = MaxDuration,
            MaxBandwidth = MaxBandwidth ?? report?.MaxBandwidth,
            SwitchoverBandwidth = SwitchoverBandwidth,
            OnStall = OnStall,
            AllowPostcopy = AllowPostcopy || report?.Mode == QemuMigrationMode.Postcopy,
            Hold = Hold,
            Channels = MyInvocation.BoundParameters.ContainsKey(nameof(Channels)) ? Channels : report?.Channels ?? 0,
            Compression = Compression,
            TlsDirectory = TlsCredential is null ? null : ResolvePath(TlsCredential),
            TlsHostName = TlsHostName,
            AllowPlaintext = AllowPlaintext,
            KeepSource = KeepSource,
            JournalPath = Journal is null ? null : ResolvePath(Journal),
            StepTimeout = Timeout,
            NoProgress = NoProgressTimeout,
            TargetLog = log is null ? null : () => File.Exists(log) ? File.ReadAllText(log) : "",
            Predicted = report?.Estimate is { } estimate ? (Range(estimate.ShortestDowntime, estimate.LongestDowntime), Range(estimate.ShortestDuration, estimate.LongestDuration)) : default,
        };
    }

    private static async Task RunAsync(IOperationHost host, RunspaceSession session, GivenMonitor source, GivenMonitor? target, string to, MoveOptions options, TimeSpan timeout)
    {
        await using var from = await source.OpenAsync(host, timeout).ConfigureAwait(false);
        await using var into = target is null ? null : await target.OpenAsync(host, timeout).ConfigureAwait(false);
        var progress = new ProgressRecord(1, $"Migration of {from.Engine.VMName ?? from.Engine.Name} to {to}", "prepares");
        var move = new MigrationMove(options with
        {
            Source = from.Engine,
            Target = into?.Engine,
            OnSample = sample => MigrationProgress.Show(host, progress, sample),
        });
        var running = session.AddOwned(new RunningMove(move, source.Uri, to));
        try
        {
            var end = await move.RunAsync(host.CancellationToken).ConfigureAwait(false);
            host.WriteObject(end.Result);
            if (end.Failure is not null)
            {
                host.WriteError(ErrorMap.ToErrorRecord(end.Failure, end.Result));
            }
        }
        finally
        {
            session.Release(running);
            progress.RecordType = ProgressRecordType.Completed;
            host.WriteProgress(progress);
        }
    }

    private static string? Range(TimeSpan? shortest, TimeSpan? longest) => shortest is null ? null
        : string.Create(CultureInfo.InvariantCulture, $"{shortest.Value.TotalSeconds:0.###}-{longest?.TotalSeconds.ToString("0.###", CultureInfo.InvariantCulture) ?? "?"} s");
}
