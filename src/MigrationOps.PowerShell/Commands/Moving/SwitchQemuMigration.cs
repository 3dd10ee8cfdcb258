using System.Management.Automation;
using MigrationOps.Engine.Moving;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommon.Switch, "QemuMigration", SupportsShouldProcess = true)]
[OutputType(typeof(QemuMigrationVerdict))]
public sealed class SwitchQemuMigration : MoveCmdlet
{
    [Parameter]
    public SwitchParameter ToPostcopy { get; set; }

    protected override Action<IOperationHost>? Prepare()
    {
        if (!ToPostcopy)
        {
            throw new MoveException(MoveError.InvalidOption, "It is not said what to switch to.", action: "Say -ToPostcopy: there is no way back from it.");
        }

        var source = GivenSource;
        var target = GivenTarget;
        var timeout = Timeout;
        if (FindRunning(source) is { } running)
        {
            return IfConfirmed(source.Uri, "Let the guest run on the target and fetch its memory from there", _ => running.Move.SwitchToPostcopy());
        }

        return IfConfirmed(source.Uri, "Let the guest run on the target and fetch its memory from there", host => SwitchAsync(host, source, target, timeout).GetAwaiter().GetResult());
    }

    private static async Task SwitchAsync(IOperationHost host, GivenMonitor given, GivenMonitor? givenTarget, TimeSpan timeout)
    {
        await using var source = await given.OpenAsync(host, timeout).ConfigureAwait(false);
        await using var target = givenTarget is null ? null : await givenTarget.OpenAsync(host, timeout).ConfigureAwait(false);
        await source.Engine.ExecuteAsync("migrate-start-postcopy", cancellationToken: host.CancellationToken).ConfigureAwait(false);
        await SideControl.WaitAsync(source.Engine, answer => answer.IsPostcopy || answer.HasEnded, timeout).ConfigureAwait(false);
        host.WriteObject(await LookAsync(source, target, timeout, host.CancellationToken).ConfigureAwait(false));
    }
}
