using System.Collections;
using System.Management.Automation;
using System.Text.Json;
using MigrationOps.Engine.Qmp;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Invoke, "QemuMonitorCommand", SupportsShouldProcess = true)]
[OutputType(typeof(PSObject), typeof(string))]
public sealed class InvokeQemuMonitorCommand : MonitorCmdlet
{
    [Parameter(Mandatory = true, Position = 0)]
    [ArgumentCompleter(typeof(QmpCommandCompleter))]
    [ValidateNotNullOrEmpty]
    public string Command { get; set; } = "";

    [Parameter(Position = 1)]
    [ArgumentCompleter(typeof(QmpArgumentCompleter))]
    [Alias("Arguments")]
    [ValidateNotNull]
    public IDictionary? ArgumentList { get; set; }

    [Parameter]
    public SwitchParameter Oob { get; set; }

    [Parameter]
    public SwitchParameter Raw { get; set; }

    protected override Action<IOperationHost>? Prepare()
    {
        var command = new QmpCommand(Command, QmpObjects.ToArguments(ArgumentList), Oob);
        if (!command.IsQuery && !ShouldProcess(Target.ToString() ?? "", $"Run '{Command}' on the VM"))
        {
            return null;
        }

        TimeSpan? timeout = MyInvocation.BoundParameters.ContainsKey(nameof(Timeout)) ? Timeout : null;
        return WithMonitor(async use =>
        {
            var answer = await use.Engine.ExecuteAsync(command, timeout, use.Host.CancellationToken).ConfigureAwait(false);
            if (Raw)
            {
                use.Host.WriteObject(answer.GetRawText());
                return;
            }

            // Most commands that change something return an empty object, which says nothing.
            foreach (var item in answer.ValueKind == JsonValueKind.Array ? [.. answer.EnumerateArray()] : new[] { answer })
            {
                if (item.ValueKind != JsonValueKind.Object || item.EnumerateObject().Any())
                {
                    use.Host.WriteObject(QmpObjects.FromJson(item)!);
                }
            }
        });
    }
}
