using System.Management.Automation;
using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsDiagnostic.Test, "DeviceState", DefaultParameterSetName = PathSet)]
[OutputType(typeof(DeviceStateReport), typeof(bool))]
public sealed class TestDeviceState : OperationCmdlet
{
    private const string PathSet = "Path";
    private const string SocketSet = "Socket";
    private const string CprSet = "CprState";
    private const string ArchiveSet = "Archive";

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = PathSet, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("FullName", "LiteralPath", "PSPath")]
    [ValidateNotNullOrEmpty]
    public string Path { get; set; } = "";

    [Parameter(ParameterSetName = PathSet, ValueFromPipelineByPropertyName = true)]
    [AllowNull]
    [AllowEmptyString]
    public string? Sha256 { get; set; }

    [Parameter(ParameterSetName = PathSet)]
    public SwitchParameter Raw { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = SocketSet)]
    [ValidateNotNullOrEmpty]
    public string SocketPath { get; set; } = "";

    [Parameter(ParameterSetName = SocketSet)]
    public SwitchParameter RoundTrip { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = CprSet)]
    [AllowEmptyCollection]
    public CprFd[] CprState { get; set; } = [];

    [Parameter(ParameterSetName = CprSet)]
    [ValidateNotNull]
    public CprFd[]? Reference { get; set; }

    [Parameter(ParameterSetName = CprSet)]
    [ValidateNotNullOrEmpty]
    public string? ReferencePath { get; set; }

    [Parameter(ParameterSetName = CprSet)]
    [ValidateNotNullOrEmpty]
    public string? Stream { get; set; }

    [Parameter(ParameterSetName = CprSet)]
    [ValidateNotNull]
    public string[] OpenedByPath { get; set; } = [];

    [Parameter(Mandatory = true, ParameterSetName = ArchiveSet)]
    [ValidateNotNullOrEmpty]
    public string Archive { get; set; } = "";

    [Parameter]
    public SwitchParameter Quiet { get; set; }

    protected override object Target => ParameterSetName switch
    {
        SocketSet => SocketPath,
        CprSet => $"CPR set of {CprState.Length} entries",
        ArchiveSet => Archive,
        _ => Path,
    };

    protected override Action<IOperationHost>? Prepare()
    {
        string target = ParameterSetName == CprSet ? (string)Target : ResolvePath((string)Target);
        string? reference = ReferencePath is null ? null : ResolvePath(ReferencePath);
        string? stream = Stream is null ? null : ResolvePath(Stream);
        string? expected = string.IsNullOrEmpty(Sha256) ? null : Sha256;
        return host =>
        {
            using var scope = NewScope(host);
            var report = ParameterSetName switch
            {
                SocketSet => VhostProbe.Test(target, RoundTrip, scope, host.Logger),
                CprSet => TestCprState(reference, stream, scope),
                ArchiveSet => TestArchive(target, host),
                _ => StateFile.Test(target, Raw, expected, scope),
            };
            host.WriteObject(Quiet ? report.Passed : report);
        };
    }

    private DeviceStateReport TestCprState(string? referencePath, string? stream, TransferScope scope)
    {
        var checks = new List<DeviceStateCheck>(CprSetCheck.CheckSet(CprState));
        if (Reference is not null)
        {
            checks.AddRange(CprSetCheck.AgainstSet(CprState, Reference));
        }

        if (referencePath is not null)
        {
            checks.AddRange(CprSetCheck.AgainstSet(CprState, CprDescription.Read(referencePath).Entries));
        }

        if (stream is not null)
        {
            checks.AddRange(CprSetCheck.AgainstRam(CprState,
                [.. RamBlockList.Read(stream, scope).Select(block => new CprRamBlock(block.Name, block.Length))],
                OpenedByPath));
        }

        return new DeviceStateReport((string)Target, checks);
    }

    private DeviceStateReport TestArchive(string folder, IOperationHost host)
    {
        using var scope = NewScope(host, ProgressRule.WholeTransfer);
        return ArchiveVerifier.Test(folder, scope);
    }
}
