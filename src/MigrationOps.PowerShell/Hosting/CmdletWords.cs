namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// Advice in the words of the cmdlets. The engine does not know PowerShell: its advice says what to do, and here stands with which
/// cmdlet or parameter. docs/errors.md has the words of the cmdlets.
/// </summary>
internal static class CmdletWords
{
    /// <summary>What the engine says, and what an operator reads.</summary>
    internal static readonly (string Engine, string Cmdlets)[] All =
    [
        ("longer timeout", "longer -Timeout"),
        ("on the monitor: ", "with Invoke-QemuMonitorCommand "),
        ("Give the monitor of the QEMU that waits with -incoming.", "Give the monitor of the QEMU that waits with -incoming as -Target."),
        ("Find out which side runs.", "Let Resolve-QemuMigration say which side runs."),
        ("Wait until it has ended, or", "Wait until it has ended (Get-QemuMigration -Watch), or"),
        ("Choose another port, or none.", "Choose another port, or leave -Listen out."),
        ("by the list of VFIO devices.", "by the list of Get-VfioDevice."),
        ("Choose another mode, or", "Choose another -Mode, or"),
        ("Leave the channels out, or", "Leave -Channels out, or"),
        ("or copy the disks with the VM.", "or copy the disks with the VM: -CopyDisk"),
        ("that no manager needs, without a lease.", "that no manager needs, without -Lease."),
        ("or compare streams by hand.", "or compare streams by hand with Compare-MigrationStream."),
        ("ehearse with a stream of the source.", "ehearse with a stream of the source: Test-MigrationStream"),
        ("Measure the VM's dirty rate while it does its usual work, and give it.",
            "Give what Measure-QemuDirtyRate measured while the VM does its usual work: -DirtyRate"),
        ("Send state files to a receiver of this module. A QEMU loads a whole migration: keep one in an archive, and replay that.",
            "Send state files to a Receive-VfioMultifdState. A QEMU loads a whole migration: keep one with Receive-VfioMultifdState -Archive, and replay it with Send-VfioMultifdState -Archive."),
        ("report it with an archive of it", "report it with an -Archive of it"),
        ("together with the transcript: it breaks", "together with the transcript (-Verbose): it breaks"),
        ("Give a file that this module wrote, or say that it holds bare bytes.",
            "Give a file that Start-VhostStateSave or another cmdlet of this module wrote; use -Raw for bare bytes."),
        ("Use no raw bytes on either side, so that", "Leave -Raw out on both sides, so that"),
        ("use a lease if it connects only for moments", "use -Lease if it connects only for moments"),
        ("Ask a domain of libvirt by its name: that goes", "Ask a domain of libvirt by its name (Connect-QemuMonitor -Domain NAME): that goes"),
        ("Connect for writing if the command", "Connect without -ReadOnly if the command"),
        ("Connect without a lease, if", "Connect without -Lease, if"),
        ("Connect the monitor again.", "Connect again with Connect-QemuMonitor."),
        ("Connect the monitor anew if you mean", "Connect anew with Connect-QemuMonitor if you mean"),
        ("List the VMs of this host for their names.", "Look at Find-QemuVM for the names of the VMs on this host."),
        ("Connect with a lease.", "Connect with -Lease."),
        ("Give windows of whole seconds, such as 1, 2 and 5.", "Give windows of whole seconds, such as -Window 1,2,5."),
        ("Watch the migration: DirtyBytesPerSecond.", "Use Get-QemuMigration -Watch: DirtyBytesPerSecond."),
        ("List what is registered.", "List what is registered with Get-SaveVMHandler."),
        ("Turn the return path on at the source; in QEMU it is the capability return-path.",
            "Turn the return path on at the source: Send-MigrationStream -ReturnPath, or QEMU's capability return-path."),
        ("then resume on the target first, and then on the source.",
            "then resume: Receive-MigrationStream -Resume on the target, and Send-MigrationStream -Resume on the source."),
        ("then resume here first, and then on the source.",
            "then resume: Receive-MigrationStream -Resume here, and Send-MigrationStream -Resume on the source."),
        ("Resume a paused migration, or give it up.", "Resume a paused migration with -Resume, or give it up with -Abandon."),
        ("a migration with TLS needs credentials here", "a migration with TLS needs -TlsCredential here"),
        ("List what the stream holds.", "List what the stream holds with Get-MigrationStream."),
        ("give its offset.", "give -Offset."),
        ("give its offset then.", "give -Offset then."),
        ("Give the offset ", "Give -Offset "),
        ("Compare a stream with it.",
            "Give it to Compare-MigrationStream as -DifferencePath, with a stream as -ReferencePath."),
        ("Check the state file beside it.", "Give the state file beside it to Test-DeviceState."),
        ("Read it as a set of descriptors.", "Read it with Get-CprFd or Test-DeviceState."),
        ("Check it as a device state.", "Read it with Test-DeviceState."),
        ("End the other hand-over first.", "End the other hand-over with Close-CprState."),
        ("Remove one of the two, or close the whole set.",
            "Remove one of the two: Unregister-CprFd, or Close-CprState for a whole set."),
        ("allow its user id.", "name its user id with -AllowUid."),
        ("then close the hand-over.", "then Close-CprState."),
        ("Look at the registry for the names and ids that are registered.",
            "Look at Get-CprFd for the names and ids that are registered."),
        ("Give a file with the description of a set.", "Give a file that Save-CprState -Path wrote."),
        ("or allow the loss if they are not needed", "or say -Force if they are not needed"),
        ("or allow the loss, which leaves the devices behind.", "or say -Force to leave the devices behind."),
        ("Give credentials in QEMU's x509 layout, or allow plain text if the network is trusted.",
            "Give -TlsCredential with QEMU's x509 directory, or -AllowPlaintext if the network is trusted."),
        ("Give a device together with the name of its section, or leave the name out.",
            "Give -VfioDevice together with -IdStr, or leave -IdStr out."),
        ("Name the section that is to be loaded.", "Name the section that is to be loaded with -IdStr."),
        ("or keep all of it in an archive.", "or keep all of it with -Archive."),
        ("Give a folder, an archive or a device to load.", "Give -Destination, -Archive or -VfioDevice."),
        ("leave it out of what is sent.", "leave it out with -Include."),
        ("Have the device's stop end everything that writes", "Have -StopDevice stop everything that writes"),
        ("Compare the device of both sides, values included.",
            "Compare the device of both sides (Compare-MigrationStream with values)."),
        ("Check the stream; if it is whole,", "Check the stream (Test-MigrationStream); if it is whole,"),
        ("check that it is whole.", "check that it is whole (Test-MigrationStream)."),
        ("Check the name among the VFIO devices of this host.",
            "Check the name: Get-VfioDevice lists the VFIO devices of this host."),
        ("Load a whole state, or reset the device.",
            "Load a whole state with Restore-VfioState, or run Resume-VfioDevice -Reset."),
        ("save or restore again, or let the device run on.",
            "save or restore again, or run Resume-VfioDevice."),
        ("Its state is lost. Reset the device, or load the last good state, which resets it.",
            "Its state is lost. Run Resume-VfioDevice -Reset, or load the last good state with Restore-VfioState, which resets it."),
        ("Rehearse it without memory.", "Rehearse it without memory (-SkipMemory)."),
        ("Give its passphrase (QEMU's passwordid), or", "Give its passphrase with -TlsPassphrase (QEMU's passwordid), or"),
        ("Check the passphrase. If it is right,", "Check -TlsPassphrase. If it is right,"),
        ("Say which host name to expect where it is not that of the address.", "Say with -TlsHostName which host name to expect where it is not that of the address."),
    ];

    /// <summary>The advice as an operator reads it.</summary>
    internal static string Of(string advice)
    {
        foreach (var (engine, cmdlets) in All)
        {
            advice = advice.Replace(engine, cmdlets, StringComparison.Ordinal);
        }

        return advice;
    }

    /// <summary>A result with its advice as an operator reads it.</summary>
    internal static object In(object result) => result switch
    {
        DeviceStateReport report when !report.Passed => new DeviceStateReport(report.Target,
            report.Checks.Select(check => check with { RecommendedAction = Of(check.RecommendedAction) })),
        MigrationRehearsal rehearsal => rehearsal with { RecommendedAction = Of(rehearsal.RecommendedAction) },
        QemuLogFinding finding => finding with { RecommendedAction = Of(finding.RecommendedAction) },
        QemuMigrationReport report => report with
        {
            Checks = [.. report.Checks.Select(check => check with { RecommendedAction = Of(check.RecommendedAction) })],
        },
        VfioDeviceInfo device => device with { Message = Of(device.Message) },
        _ => result,
    };
}
