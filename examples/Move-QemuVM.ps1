<#
.SYNOPSIS
    Moves a VM to a QEMU that waits for it: pre-flight, move, and the way back when it fails.
.DESCRIPTION
    The script tests the pair first (Test-QemuMigration) and stops at what forbids the migration. Then it moves the VM so that exactly one side runs it
    (Start-QemuMigration). If that fails it resolves the move by its journal, does what is safe, and says where the VM runs.

    It ends with an error, and pwsh -File with another code than 0, unless the VM runs at the target.
.EXAMPLE
    ./Move-QemuVM.ps1 -Monitor /run/vm/web01.qmp -Target /run/vm/web01-new.qmp

    Moves the VM to another QEMU of this host, which was started with the same arguments and -incoming defer.
.EXAMPLE
    ./Move-QemuVM.ps1 -Monitor /run/vm/web01.qmp -Target tcp:kvm2:4444 -Uri tcp:kvm2:0 -TlsCredential /etc/pki/qemu -WhatIf

    Only tests whether it would be tried.
.OUTPUTS
    The result of Start-QemuMigration.
#>

#Requires -Version 7.6
#Requires -Modules MigrationOps
[CmdletBinding(SupportsShouldProcess)]
[OutputType('MigrationOps.QemuMigrationResult')]
param(
    # The monitor of the QEMU that has the VM.
    [Parameter(Mandatory)]
    [ValidateNotNullOrEmpty()]
    [string] $Monitor,

    # The monitor of the QEMU that waits (-incoming defer).
    [Parameter(Mandatory)]
    [ValidateNotNullOrEmpty()]
    [string] $Target,

    # Where the target listens for the migration: tcp:HOST:0. Not needed on one host.
    [string] $Uri,

    # QEMU's x509 directory, at the same path on both hosts.
    [string] $TlsCredential,

    # The journal of the move; one of its own by default.
    [string] $Journal,

    # Tries the move although the pre-flight found a blocker.
    [switch] $Force
)

Set-StrictMode -Version 3
$ErrorActionPreference = 'Stop'

$report = Test-QemuMigration -Monitor $Monitor -Target $Target
Write-Verbose "$report"
$report.Checks | Where-Object Status -In Blocker, Warning, Unknown | ForEach-Object { Write-Verbose "$_" }
if (-not $report.CanMigrate -and -not $Force) {
    throw "Not tried: $(($report.Checks | Where-Object Status -EQ Blocker | ForEach-Object { "$($_.Name): $($_.Detail) $($_.RecommendedAction)" }) -join '; ')"
}

if (-not $PSCmdlet.ShouldProcess($Monitor, "Move the VM to $Target")) { return }
$options = @{ Monitor = $Monitor; Target = $Target; Confirm = $false; ErrorAction = 'SilentlyContinue'; ErrorVariable = 'problem' }
foreach ($name in 'Uri', 'TlsCredential', 'Journal') { if ($PSBoundParameters.ContainsKey($name)) { $options[$name] = $PSBoundParameters[$name] } }
$result = Start-QemuMigration @options
$result
if (-not $problem) { return }

# The way back: what is safe is done; where a person is needed it says so.
if (-not $result) { throw $problem[0] }
$verdict = $result
if ($result.SafeAction -ne 'None') {
    $verdict = Resolve-QemuMigration -Journal $result.Journal -Repair -Confirm:$false -ErrorAction Continue
    $verdict ??= Resolve-QemuMigration -Journal $result.Journal
}

if ($verdict.RunsAt -ne 'Target') {
    throw "The VM was not moved. It runs at: $($verdict.RunsAt); safe is: $($verdict.SafeAction). $($result.Reason) Journal: $($result.Journal)"
}
