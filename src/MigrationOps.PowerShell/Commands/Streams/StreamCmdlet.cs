using System.Management.Automation;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

/// <summary>What the cmdlets that read one migration stream have in common.</summary>
public abstract class StreamCmdlet : OperationCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("FullName", "LiteralPath", "PSPath")]
    [ValidateNotNullOrEmpty]
    public string Path { get; set; } = "";

    [Parameter]
    [ValidateRange(0, long.MaxValue)]
    public long Offset { get; set; }

    [Parameter(ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    public string? Snapshot { get; set; }

    [Parameter]
    [ValidateRange(1 << 20, long.MaxValue)]
    public long MaxMemory { get; set; } = MemoryBudget.Default;

    protected override object Target => Path;

    /// <summary>The stream that the parameters name. Take it on the pipeline's thread, for it looks at the current location.</summary>
    private protected MigrationStreamInput NewInput() => new() { Path = ResolvePath(Path), Offset = Offset, Snapshot = Snapshot, MaxMemory = MaxMemory };

    /// <summary>Runs the reading within its bounds, with a progress bar.</summary>
    private protected Action<IOperationHost> Reading(MigrationStreamInput input, Action<IOperationHost, TransferScope> read)
        => host => host.WithProgress($"Reading {input.Path}", meter =>
        {
            long? total = File.Exists(input.Path) && new FileInfo(input.Path).Length is > 0 and var length ? length : null;
            using var scope = NewScope(host, progress: bytes => meter.Report(bytes, total));
            read(host, scope);
        });
}
