using System.Management.Automation;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsData.Compare, "MigrationStream")]
[OutputType(typeof(MigrationStreamDifference))]
public sealed class CompareMigrationStream : OperationCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("Path", "FullName", "PSPath")]
    [ValidateNotNullOrEmpty]
    public string ReferencePath { get; set; } = "";

    [Parameter(Mandatory = true, Position = 1)]
    [ValidateNotNullOrEmpty]
    public string[] DifferencePath { get; set; } = [];

    [Parameter(ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    public string? Snapshot { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? DifferenceSnapshot { get; set; }

    [Parameter]
    public SwitchParameter IncludeValue { get; set; }

    [Parameter]
    [ValidateRange(1 << 20, long.MaxValue)]
    public long MaxMemory { get; set; } = MemoryBudget.Default;

    protected override object Target => ReferencePath;

    protected override Action<IOperationHost>? Prepare()
    {
        var reference = NewInput(ReferencePath, Snapshot);

        // What a program printed comes as its lines.
        string text = string.Join('\n', DifferencePath);
        bool isText = text.TrimStart().StartsWith('{');
        if (MigrationStreams.IsDump(reference.Path))
        {
            return host => Write(host, _ => CompareDumps(reference.Path, text, isText));
        }

        if (isText)
        {
            return host => Write(host, scope => MigrationStreams.CompareWithDumpText(reference, text, scope));
        }

        var difference = NewInput(text, DifferenceSnapshot);
        return host => Write(host, scope => MigrationStreams.IsDump(difference.Path)
            ? MigrationStreams.CompareWithDump(reference, difference.Path, scope)
            : MigrationStreams.Compare(reference, difference, IncludeValue, scope));
    }

    // Two QEMUs: what one writes, and what the other loads.
    private IReadOnlyList<MigrationStreamDifference> CompareDumps(string reference, string difference, bool isText)
    {
        if (isText)
        {
            return MigrationStreams.CompareDumpWithText(reference, difference, MaxMemory);
        }

        string path = ResolvePath(difference);
        return MigrationStreams.IsDump(path) ? MigrationStreams.CompareDumps(reference, path, MaxMemory)
            : throw new StreamException(StreamError.InvalidDescription, $"'{path}' is a stream, and the reference a device description of QEMU: a description can only be held against another one.",
                action: "Give the stream as the reference, or the second QEMU's description: qemu-system-x86_64 -M MACHINE -dump-vmstate FILE")
            { Target = path };
    }

    private MigrationStreamInput NewInput(string path, string? snapshot)
        => new() { Path = ResolvePath(path), Snapshot = snapshot, MaxMemory = MaxMemory };

    private void Write(IOperationHost host, Func<TransferScope, IEnumerable<MigrationStreamDifference>> compare)
    {
        using var scope = NewScope(host);
        foreach (var difference in compare(scope))
        {
            host.WriteObject(difference);
        }
    }
}
