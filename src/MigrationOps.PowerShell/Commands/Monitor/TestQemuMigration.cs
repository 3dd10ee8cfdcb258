using System.Management.Automation;
using System.Management.Automation.Runspaces;
using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Qmp;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsDiagnostic.Test, "QemuMigration")]
[OutputType(typeof(QemuMigrationReport), typeof(bool))]
public sealed class TestQemuMigration : MonitorCmdlet
{
    private const string AskHost = "param($session) Invoke-Command -Session $session -ScriptBlock { Import-Module MigrationOps; Get-QemuHost }";

    [Parameter(Mandatory = true, Position = 0)]
    [ValidateNotNull]
    public new object Target { get; set; } = "";

    [Parameter]
    public QemuMigrationMode Mode { get; set; }

    [Parameter]
    [ValidateRange(0, 255)]
    public int Channels { get; set; }

    [Parameter]
    [ValidateRange(1, long.MaxValue)]
    public long? MaxBandwidth { get; set; }

    [Parameter]
    [Seconds]
    public TimeSpan? DowntimeLimit { get; set; }

    [Parameter]
    [ValidateNotNull]
    public object? DirtyRate { get; set; }

    [Parameter]
    [Alias("ListenUri")]
    [ValidateNotNullOrEmpty]
    public string? Listen { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? TlsCredential { get; set; }

    [Parameter]
    public SwitchParameter AllowPlaintext { get; set; }

    [Parameter]
    public SwitchParameter CopyDisk { get; set; }

    [Parameter]
    [ValidateNotNull]
    [SupportsWildcards]
    public string[] Skip { get; set; } = [];

    [Parameter]
    public SwitchParameter Quiet { get; set; }

    protected override bool OnlyReads => true;

    protected override Action<IOperationHost>? Prepare()
    {
        var options = new PreflightOptions
        {
            Mode = Mode,
            Channels = Channels,
            MaxBandwidth = MaxBandwidth,
            DowntimeLimit = DowntimeLimit,
            DirtyRate = PlainRecords.Read<DirtyRateProfile>(DirtyRate) ?? PlainRecords.Read<DirtyRateProfile>(Monitor),
            Listen = Listen is null ? null : ResolveEndpoint(Listen),
            TlsCredential = TlsCredential is null ? null : ResolvePath(TlsCredential),
            AllowPlaintext = AllowPlaintext,
            CopyDisk = CopyDisk,
            Skip = Skip,
        };
        object target = (Target as PSObject)?.BaseObject ?? Target;
        var wrapped = Target as PSObject;
        if ((target is PSSession session ? AskSession(session) : PlainRecords.Read<QemuHost>(Target)) is { } host)
        {
            return WithMonitor(async use => Write(use.Host, await PreflightRun.TestAsync(use.Engine, host, options, use.Host.CancellationToken).ConfigureAwait(false)));
        }

        var address = target is LiveMonitor ? null : Address(target, wrapped) with { Timeouts = QmpTimeouts.Of(Timeout), ReadOnly = true, AskName = true };
        return WithMonitor(async use =>
        {
            QmpMonitor? own = null;
            try
            {
                Write(use.Host, await PreflightRun.TestAsync(use.Engine,
                    async () => (target as LiveMonitor)?.Engine ?? (own = await QmpMonitor.ConnectAsync(address!, use.Host.Logger, use.Host.CancellationToken).ConfigureAwait(false)),
                    null, options, use.Host.CancellationToken).ConfigureAwait(false));
            }
            finally
            {
                if (own is not null)
                {
                    await own.DisposeAsync().ConfigureAwait(false);
                }
            }
        });
    }

    private void Write(IOperationHost host, QemuMigrationReport report) => host.WriteObject(Quiet ? report.CanMigrate : report);

    // On the pipeline's own thread, as everything of PowerShell's.
    private QemuHost AskSession(PSSession session)
        => InvokeCommand.InvokeScript(AskHost, false, PipelineResultTypes.Error, null, session).Select(PlainRecords.Read<QemuHost>).OfType<QemuHost>().FirstOrDefault()
            ?? throw new QmpException(QmpError.StartFailed, $"Nothing is known of the host of the session '{session.Name}': Get-QemuHost gave nothing there.",
                action: "Install MigrationOps there, and try: Invoke-Command -Session $session { Get-QemuHost }");
}
