using System.Management.Automation;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

/// <summary>What the cmdlets that read one migration stream have in common.</summary>
public abstract class StreamCmdlet : OperationCmdlet
{
    [Parameter(Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("FullName", "LiteralPath", "PSPath")]
    [ValidateNotNullOrEmpty]
    public string? Path { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Domain { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Connect { get; set; }

    [Parameter]
    [ValidateRange(0, long.MaxValue)]
    public long Offset { get; set; }

    [Parameter(ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    public string? Snapshot { get; set; }

    [Parameter]
    [ValidateRange(1 << 20, long.MaxValue)]
    public long MaxMemory { get; set; } = MemoryBudget.Default;

    protected override object? Target => Path ?? Domain;

    /// <summary>
    /// The stream that the parameters name. Take it on the pipeline's thread, for it looks at the current location. That of a domain has
    /// no path yet: <see cref="Reading"/> asks libvirt for it.
    /// </summary>
    /// <exception cref="StreamException">Neither or both of -Path and -Domain are given.</exception>
    private protected MigrationStreamInput NewInput()
    {
        if (Path is null == Domain is null)
        {
            throw new StreamException(StreamError.NotFound, "Give either -Path or -Domain.", action: "Name the file that has the stream, or the libvirt domain that was saved.");
        }

        return new MigrationStreamInput { Path = Path is null ? Domain! : ResolvePath(Path), Offset = Offset, Snapshot = Snapshot, MaxMemory = MaxMemory };
    }

    /// <summary>Runs the reading within its bounds, with a progress bar.</summary>
    private protected Action<IOperationHost> Reading(MigrationStreamInput given, Action<IOperationHost, TransferScope, MigrationStreamInput> read)
        => host => host.WithProgress($"Reading {given.Path}", meter =>
        {
            var input = given;
            if (Domain is not null)
            {
                using var asking = NewScope(host);
                var found = LibvirtDomain.Find(Domain, Connect, Snapshot, asking);
                input = given with { Path = found.Path, Snapshot = found.Snapshot };
            }

            long? total = File.Exists(input.Path) && new FileInfo(input.Path).Length is > 0 and var length ? length : null;
            using var scope = NewScope(host, progress: bytes => meter.Report(bytes, total));
            read(host, scope, input);
        });
}
