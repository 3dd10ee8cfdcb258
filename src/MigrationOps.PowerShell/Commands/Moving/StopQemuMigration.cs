using System.Management.Automation;
using MigrationOps.Engine.Moving;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Stop, "QemuMigration", SupportsShouldProcess = true)]
[OutputType(typeof(QemuMigrationVerdict))]
public sealed class StopQemuMigration : MoveCmdlet
{
    protected override Action<IOperationHost>? Prepare()
    {
        var source = GivenSource;
        var target = GivenTarget;
        var timeout = Timeout;
        if (FindRunning(source) is { } running)
        {
            // The cmdlet that drives it gives the result.
            return IfConfirmed(source.Uri, "Cancel the migration", _ =>
            {
                if (running.Move.Phase is MovePhase.Postcopy or MovePhase.PostcopyPaused or MovePhase.Recovering)
                {
                    throw InPostcopy(source.Uri);
                }

                running.Move.Cancel();
            });
        }

        return IfConfirmed(source.Uri, "Cancel the migration", host => StopAsync(host, source, target, timeout).GetAwaiter().GetResult());
    }

    private static async Task StopAsync(IOperationHost host, GivenMonitor given, GivenMonitor? givenTarget, TimeSpan timeout)
    {
        await using var source = await given.OpenAsync(host, timeout).ConfigureAwait(false);
        await using var target = givenTarget is null ? null : await givenTarget.OpenAsync(host, timeout).ConfigureAwait(false);
        var answer = await SideAnswer.AskAsync(source.Engine, null, host.CancellationToken).ConfigureAwait(false);
        if (answer.IsPostcopy)
        {
            throw InPostcopy(given.Uri);
        }

        if (target is not null)
        {
            var other = await SideAnswer.AskAsync(target.Engine, null, host.CancellationToken).ConfigureAwait(false);
            if (other.Runs)
            {
                throw new MoveException(MoveError.InSwitchover, $"{target.Engine.Name}: the target runs the VM already; cancelled now, the source would run it as well.") { Target = given.Uri };
            }

            if (other.RunState == "inmigrate")
            {
                await target.Engine.ExecuteAsync("stop", cancellationToken: host.CancellationToken).ConfigureAwait(false);
            }
        }
        else if (answer is { IsMigrating: true, RunState: "finish-migrate" })
        {
            throw new MoveException(MoveError.InSwitchover, $"{source.Engine.Name}: the source has stopped the guest and waits for the target ('{answer}'), which may start by itself.") { Target = given.Uri };
        }

        await SideControl.CancelAsync(source.Engine, timeout).ConfigureAwait(false);
        host.WriteObject(await LookAsync(source, target, timeout, host.CancellationToken).ConfigureAwait(false));
    }

    private static MoveException InPostcopy(string uri)
        => new(MoveError.InPostcopy, $"{uri}: the guest runs on the target already and needs what the source still has; the migration cannot be cancelled.") { Target = uri };
}
