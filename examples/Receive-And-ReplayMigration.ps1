<#
.SYNOPSIS
    Receives a migration of a virtual machine into an archive, verifies it, shows what each device sent, and replays it.
.DESCRIPTION
    Start the script, then migrate with multifd to -Uri at the source, with return-path on: then the source gives its guest up only when
    everything is here. When the source has finished, the archive is read back and verified whole. Only then it is replayed into the
    QEMU that waits with -incoming at -Target, where the machine runs afterwards. Without -Target the archive is kept for later.

    If it fails after the source has finished, the guest is stopped there: resume it there with cont.
.EXAMPLE
    ./Receive-And-ReplayMigration.ps1 -Uri tcp:127.0.0.1:4445 -Archive ./vm1 -Target tcp:127.0.0.1:4446

    Keeps the migration in ./vm1, and starts the guest in the QEMU at port 4446.
.OUTPUTS
    The report of the verification, what each VFIO device sent, and with -Target what was replayed.
#>

#Requires -Version 7.6
#Requires -Modules MigrationOps
[CmdletBinding()]
param(
    # Where the source migrates to.
    [Parameter(Mandatory)]
    [ValidateNotNullOrEmpty()]
    [string] $Uri,

    # The folder for the migration; it must not exist, or be empty.
    [Parameter(Mandatory)]
    [ValidateNotNullOrEmpty()]
    [string] $Archive,

    # A QEMU that waits with -incoming, with multifd and as many channels as the source has.
    [string] $Target,

    # QEMU's directory with x509 credentials, for addresses that are not on this host.
    [string] $TlsCredential,

    # The source has the capability switchover-ack.
    [switch] $SwitchoverAck,

    # The longest time in which nothing may move, in seconds or as a TimeSpan.
    [ValidateNotNull()]
    [object] $Timeout = 300
)

$ErrorActionPreference = 'Stop'
$security = $TlsCredential ? @{ TlsCredential = $TlsCredential } : @{}

$devices = Receive-VfioMultifdState -Uri $Uri -Archive $Archive -Timeout $Timeout -SwitchoverAck:$SwitchoverAck @security

$report = Test-DeviceState -Archive $Archive
$report
if (-not $report.Passed) {
    throw "The archive '$Archive' is not good. The machine is stopped at the source; resume it there (QMP: cont)."
}

if ($devices) {
    $devices | Format-Table -Property IdStr, Packets, OutOfOrder, Bytes, PrecopyBytes, ConfigBytes, Warnings -AutoSize
}
else {
    'The machine has no VFIO device; the archive holds its memory and the other devices.'
}

if ($Target) {
    Send-VfioMultifdState -Archive $Archive -Uri $Target -Timeout $Timeout @security
}
