using System.Management.Automation;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommon.Close, "CprState", SupportsShouldProcess = true)]
[OutputType(typeof(void))]
public sealed class CloseCprState : CprRegistryCmdlet
{
    [Parameter]
    public SwitchParameter KeepFd { get; set; }

    protected override void Process()
    {
        var session = Session;
        if (ShouldProcess($"{session.Registry.Count} descriptors",
            KeepFd ? "Close the channels of the hand-over" : "Close the channels of the hand-over and all descriptors"))
        {
            session.Close(KeepFd);
        }
    }
}
