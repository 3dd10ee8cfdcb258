using System.Management.Automation;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsData.Export, "MigrationDeviceState", SupportsShouldProcess = true, DefaultParameterSetName = DeviceSet)]
[OutputType(typeof(MigrationStreamExport))]
public sealed class ExportMigrationDeviceState : StreamCmdlet
{
    private const string DeviceSet = "Device";
    private const string RamSet = "Ram";

    [Parameter(Mandatory = true, Position = 1, ParameterSetName = DeviceSet)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    public string Device { get; set; } = "";

    [Parameter(Mandatory = true, ParameterSetName = RamSet)]
    [ValidateNotNullOrEmpty]
    public string Ram { get; set; } = "";

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string Destination { get; set; } = ".";

    [Parameter(ParameterSetName = DeviceSet)]
    public SwitchParameter Raw { get; set; }

    [Parameter(ParameterSetName = DeviceSet)]
    public SwitchParameter WholeSection { get; set; }

    protected override Action<IOperationHost>? Prepare()
    {
        var input = NewInput();
        string destination = ResolvePath(Destination);
        bool ram = ParameterSetName == RamSet;
        return IfConfirmed(destination, $"Export {(ram ? Ram : Device)} from {input.Path}", Reading(input, (host, scope, stream) =>
        {
            if (ram)
            {
                host.WriteObject(RamExporter.Export(new RamExportOptions { Input = stream, Block = Ram, Destination = destination }, scope));
                return;
            }

            var options = new StreamExportOptions { Input = stream, Device = Device, Destination = destination, Raw = Raw, WholeSection = WholeSection };
            foreach (var export in StreamExporter.Export(options, scope))
            {
                host.WriteObject(export);
            }
        }));
    }
}
