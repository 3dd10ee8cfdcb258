using System.Management.Automation;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Moving;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Resume, "QemuMigration", SupportsShouldProcess = true)]
[OutputType(typeof(QemuMigrationVerdict))]
public sealed class ResumeQemuMigration : MoveCmdlet
{
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string Uri { get; set; } = "tcp:127.0.0.1:0";

    [Parameter]
    [ValidateRange(1, 1000)]
    public int Retry { get; set; } = 5;

    [Parameter]
    [Seconds]
    [ValidateNotNull]
    public TimeSpan Interval { get; set; } = TimeSpan.FromSeconds(2);

    [Parameter]
    public SwitchParameter AllowPlaintext { get; set; }

    protected override Action<IOperationHost>? Prepare()
    {
        var source = GivenSource;
        var target = GivenTarget;
        if (FindRunning(source) is { } running)
        {
            return IfConfirmed(source.Uri, "Continue the held migration", _ => running.Move.Continue());
        }

        new TransportSecurity(null, AllowPlaintext).Check(Endpoint.Parse(Uri));
        var (uri, retry, interval, timeout) = (Uri, Retry, Interval, Timeout);
        return IfConfirmed(source.Uri, "Resume the migration", host => ResumeAsync(host, source, target, uri, retry, interval, timeout).GetAwaiter().GetResult());
    }

    private static async Task ResumeAsync(IOperationHost host, GivenMonitor given, GivenMonitor? givenTarget, string uri, int retry, TimeSpan interval, TimeSpan timeout)
    {
        await using var source = await given.OpenAsync(host, timeout).ConfigureAwait(false);
        await using var target = givenTarget is null ? null : await givenTarget.OpenAsync(host, timeout).ConfigureAwait(false);
        var answer = await SideAnswer.AskAsync(source.Engine, null, host.CancellationToken).ConfigureAwait(false);
        if (answer.Migration == "pre-switchover")
        {
            await source.Engine.ExecuteAsync("migrate-continue", new JsonObject { ["state"] = "pre-switchover" }, host.CancellationToken).ConfigureAwait(false);
            await SideControl.WaitAsync(source.Engine, said => !said.IsMigrating, timeout).ConfigureAwait(false);
        }
        else if (target is null)
        {
            throw new MoveException(MoveError.NotResumable, $"{given.Uri}: expected a migration that is held, or the target's monitor too; found '{answer}'.",
                action: "Give the target as -Target to recover a postcopy migration.")
            { Target = given.Uri };
        }
        else
        {
            await PostcopyRecovery.RunAsync(source.Engine, target.Engine, uri, retry, interval, timeout, host.Logger, host.CancellationToken).ConfigureAwait(false);
        }

        host.WriteObject(await LookAsync(source, target, timeout, host.CancellationToken).ConfigureAwait(false));
    }
}
