using System.Management.Automation;
using MigrationOps.Engine.Rehearsal;
using MigrationOps.Engine.Streams;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsData.ConvertFrom, "QemuLog")]
[OutputType(typeof(QemuLogFinding))]
public sealed class ConvertFromQemuLog : OperationCmdlet
{
    private readonly List<string> _lines = [];

    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [AllowEmptyString]
    public string[] Line { get; set; } = [];

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? StreamPath { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? DifferencePath { get; set; }

    [Parameter]
    public SwitchParameter All { get; set; }

    protected override object Target => StreamPath ?? "";

    // Which device a line is about, a later line says.
    protected override Action<IOperationHost>? Prepare()
    {
        _lines.AddRange(Line);
        return null;
    }

    protected override Action<IOperationHost>? PrepareEnd()
    {
        var stream = StreamPath is null ? null : new MigrationStreamInput { Path = ResolvePath(StreamPath) };
        var other = DifferencePath is null ? null : new MigrationStreamInput { Path = ResolvePath(DifferencePath) };
        return host =>
        {
            using var scope = NewScope(host);
            foreach (var finding in QemuLog.Explain(_lines, stream, other, scope).Where(f => All || f.Kind != "Unknown"))
            {
                host.WriteObject(finding);
            }
        };
    }
}
