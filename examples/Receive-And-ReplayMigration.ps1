#Requires -Version 7.6
#Requires -Modules MigrationOps
<#
.SYNOPSIS
    Receives a migration of a virtual machine into an archive, verifies it, shows what each device sent, and replays it.
.DESCRIPTION
    Start the script, then migrate with multifd to -Uri at the source. When the source has finished, the archive is read
    back and verified whole. Only then it is replayed into the QEMU that waits with -incoming at -Target, where the
    machine runs afterwards. Without -Target the archive is kept for later.
.EXAMPLE
    ./Receive-And-ReplayMigration.ps1 -Uri tcp:127.0.0.1:4445 -Archive ./vm1 -Target tcp:127.0.0.1:4446
#>
[CmdletBinding()]
param(
    # Where the source migrates to.
    [Parameter(Mandatory)]
    [string] $Uri,

    # The folder for the migration; it must not exist, or be empty.
    [Parameter(Mandatory)]
    [string] $Archive,

    # A QEMU that waits with -incoming, with multifd and as many channels as the source has.
    [string] $Target,

    # QEMU's directory with x509 credentials, for addresses that are not on this host.
    [string] $TlsCredential,

    # The longest time in which nothing may move.
    [timespan] $Timeout = '00:05:00'
)

$ErrorActionPreference = 'Stop'
$security = $TlsCredential ? @{ TlsCredential = $TlsCredential } : @{}

$devices = Receive-VfioMultifdState -Uri $Uri -Archive $Archive -Timeout $Timeout @security

$report = Test-DeviceState -Archive $Archive
$report
if (-not $report.Passed) {
    throw "The archive '$Archive' is not good. The machine is stopped at the source; let it go on there (QMP: cont)."
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
