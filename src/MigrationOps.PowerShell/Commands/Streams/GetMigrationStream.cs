using System.Management.Automation;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommon.Get, "MigrationStream", DefaultParameterSetName = "Overview")]
[OutputType(typeof(MigrationStreamInfo), typeof(MigrationStreamDevice), typeof(MigrationSnapshot), typeof(string))]
public sealed class GetMigrationStream : StreamCmdlet
{
    [Parameter(Mandatory = true, ParameterSetName = "Device")]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    public string[] Device { get; set; } = [];

    [Parameter(Mandatory = true, ParameterSetName = "Json")]
    public SwitchParameter Json { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = "Description")]
    public SwitchParameter Description { get; set; }

    protected override Action<IOperationHost>? Prepare()
    {
        var input = NewInput();
        var reading = Reading(input, Read);
        return host =>
        {
            // Which of several states is meant, only the operator knows.
            if (Snapshot is null && ParameterSetName == "Overview" && Domain is null && MigrationStreams.GetSnapshots(input) is { } snapshots
                && snapshots.Count(s => s.StateSize > 0) != 1)
            {
                foreach (var snapshot in snapshots)
                {
                    host.WriteObject(snapshot);
                }

                if (snapshots.Count > 0)
                {
                    return;
                }
            }

            reading(host);
        };
    }

    private void Read(IOperationHost host, TransferScope scope, MigrationStreamInput input)
    {
        if (Json)
        {
            var text = new StringWriter();
            MigrationStreams.WriteAnalyzeJson(input, text, scope);
            host.WriteObject(text.ToString().TrimEnd('\n'));
            return;
        }

        if (Description)
        {
            host.WriteObject(MigrationStreams.GetDescription(input, scope));
            return;
        }

        if (Device.Length > 0)
        {
            foreach (var device in MigrationStreams.GetDevices(input, Device, scope))
            {
                host.WriteObject(device);
            }
        }
        else
        {
            host.WriteObject(MigrationStreams.GetInfo(input, scope));
        }

        if (scope.Failure is { } failure)
        {
            host.WriteError(ErrorMap.ToErrorRecord(failure, input.Path));
        }
    }
}
