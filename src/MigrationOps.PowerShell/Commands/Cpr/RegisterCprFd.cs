using System.Management.Automation;
using MigrationOps.Engine.Cpr;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Register, "CprFd", SupportsShouldProcess = true, DefaultParameterSetName = FdSet)]
[OutputType(typeof(CprFd))]
public sealed class RegisterCprFd : CprRegistryCmdlet
{
    private const string FdSet = "Fd";
    private const string PathSet = "Path";
    private const string MemFdSet = "MemFd";

    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    public string Name { get; set; } = "";

    [Parameter(Position = 1, ValueFromPipelineByPropertyName = true)]
    public int Id { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = FdSet)]
    [ValidateRange(0, int.MaxValue)]
    public int Fd { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = PathSet)]
    [Alias("FullName", "LiteralPath", "PSPath")]
    [ValidateNotNullOrEmpty]
    public string Path { get; set; } = "";

    [Parameter(ParameterSetName = PathSet)]
    public FileAccess Access { get; set; } = FileAccess.ReadWrite;

    [Parameter(Mandatory = true, ParameterSetName = MemFdSet)]
    [ValidateLength(1, 249)]
    public string MemFd { get; set; } = "";

    [Parameter(Mandatory = true, ParameterSetName = MemFdSet)]
    [ValidateRange(0, long.MaxValue)]
    public long Size { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    protected override object Target => Name;

    protected override void Process()
    {
        var name = CprName.Parse(Name);
        var registry = Session.Registry;
        if (!Force && registry.FindFd(name, Id) is not null)
        {
            throw new CprException(CprError.DuplicateEntry, $"'{Name}', id {Id}, is registered already.",
                action: "Choose another name or id, or say -Force to put a newer entry before it, as QEMU does.")
            { Target = Name };
        }

        (string what, Func<CprEntry> register) = ParameterSetName switch
        {
            PathSet => (Path, () => CprOpen.File(registry, name, Id, GetUnresolvedProviderPathFromPSPath(Path), Access)),
            MemFdSet => ($"memfd {MemFd} of {Size} bytes", () => CprOpen.Memory(registry, name, Id, MemFd, Size)),
            _ => ($"descriptor {Fd}", (Func<CprEntry>)(() => registry.SaveFd(name, Id, Fd))),
        };
        if (ShouldProcess($"{Name}, id {Id}", $"Register {what}"))
        {
            WriteObject(CprFdInspector.Describe(register()));
        }
    }
}
