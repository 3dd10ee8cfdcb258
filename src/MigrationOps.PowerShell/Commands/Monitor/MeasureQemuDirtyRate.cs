using System.Globalization;
using System.Management.Automation;
using MigrationOps.Engine.Qmp;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsDiagnostic.Measure, "QemuDirtyRate")]
[OutputType(typeof(DirtyRateProfile))]
public sealed class MeasureQemuDirtyRate : MonitorCmdlet
{
    private static readonly TimeSpan Shortest = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(60);

    [Parameter(Position = 0)]
    [Seconds]
    [ValidateNotNullOrEmpty]
    public TimeSpan[] Window { get; set; } = [];

    [Parameter]
    public DirtyRateMode Mode { get; set; }

    [Parameter]
    [ValidateRange(DirtyRateMeasurement.FewestSamples, DirtyRateMeasurement.MostSamples)]
    public int SamplePages { get; set; } = 512;

    protected override bool OnlyReads => Mode == DirtyRateMode.PageSampling;

    protected override Action<IOperationHost>? Prepare()
    {
        foreach (var window in Window)
        {
            if (window < Shortest || window > Longest)
            {
                throw new QmpException(QmpError.InvalidArgument, $"A window of {window.TotalSeconds:0.###} s is not within 0.05 to 60 s.", action: "Give windows of 0.05 to 60 seconds.");
            }
        }

        return WithMonitor(async use =>
        {
            var windows = Window.Length > 0 ? Window : await UsualAsync(use).ConfigureAwait(false);
            var progress = new ProgressRecord(1, $"Dirty rate of {use.VM ?? use.Engine.Name}", "measures");
            var profile = await DirtyRateMeasurement.MeasureAsync(use.Engine, use.VM, windows, Mode, SamplePages, (number, window) =>
            {
                progress.StatusDescription = string.Create(CultureInfo.InvariantCulture, $"window {number + 1} of {windows.Length}: {window.TotalSeconds:0.###} s");
                progress.PercentComplete = 100 * number / windows.Length;
                use.Host.WriteProgress(progress);
            }, use.Host.CancellationToken).ConfigureAwait(false);
            progress.RecordType = ProgressRecordType.Completed;
            use.Host.WriteProgress(progress);
            use.Host.WriteObject(profile);
        });
    }

    // QEMUs before 8.2 measure whole seconds.
    private static async Task<TimeSpan[]> UsualAsync(MonitorUse use)
        => (await use.Engine.GetSchemaAsync(use.Host.CancellationToken).ConfigureAwait(false)).HasArgument("calc-dirty-rate", "calc-time-unit")
            ? [TimeSpan.FromSeconds(0.2), TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(5)]
            : [TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(5)];
}
