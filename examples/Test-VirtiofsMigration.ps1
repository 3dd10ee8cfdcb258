<#
.SYNOPSIS
    Finds out whether a VM's virtiofs state would load on this host, before anything is migrated.
.DESCRIPTION
    Saves the VM to a file (or takes a stream that is there already), tests that the stream is whole, pulls the state of
    every virtiofsd out of it, loads each into a scratch virtiofsd that shares the destination's directory, and asks
    that virtiofsd whether it accepted everything. The VM runs on afterwards; the scratch virtiofsd is gone.

    A virtiofsd with --migration-on-error guest-error says that it has loaded a state of which files are missing. So each state is
    loaded as with abort, and only if that fails once more with guest-error, to name all that is missing.

    While it is saved the VM stands still. Its memory goes into the file as well: keep the folder private.

    As a program (pwsh -File) it ends with 1 if a state would not load whole.
.EXAMPLE
    ./Test-VirtiofsMigration.ps1 -MonitorPath /run/vm0.qmp -Virtiofsd /usr/libexec/virtiofsd -SharedDirectory /srv/share

    One object per virtiofsd, with Passed and the reason.
.EXAMPLE
    ./Test-VirtiofsMigration.ps1 -StreamPath ./vm0.stream -Virtiofsd /usr/libexec/virtiofsd -SharedDirectory /srv/share

    The same with a stream that was saved on another host.
.OUTPUTS
    An object per virtiofsd with Passed, Device, Bytes, Sha256, Detail, and Missing: what virtiofsd says of each file that is not there.
#>

#Requires -Version 7.6
[CmdletBinding(DefaultParameterSetName = 'Monitor')]
param(
    # The VM's QMP socket. No other client may be connected to it.
    [Parameter(Mandatory, ParameterSetName = 'Monitor')]
    [string] $MonitorPath,

    # A stream of the VM: a file that QEMU's migrate wrote, or a libvirt save image.
    [Parameter(Mandatory, ParameterSetName = 'Stream')]
    [string] $StreamPath,

    # The virtiofsd program of this host.
    [Parameter(Mandatory)]
    [string] $Virtiofsd,

    # The directory that this host's virtiofsd will share.
    [Parameter(Mandatory)]
    [string] $SharedDirectory,

    # More arguments for virtiofsd, such as --modcaps=+dac_read_search for file-handle states.
    [string[]] $VirtiofsdArgument = @('--sandbox', 'none'),

    # Which devices.
    [string] $Device = '*vhost-user-fs',

    # Where the stream and the states go; a new folder that is removed in the end, if left out.
    [string] $Folder,

    # The longest wait for the save, in seconds or as a TimeSpan.
    [ValidateNotNull()]
    [object] $Timeout = 300
)

Set-StrictMode -Version 3
$ErrorActionPreference = 'Stop'
if (-not (Get-Module -Name MigrationOps)) { Import-Module -Name MigrationOps }

# A number is seconds, as in the cmdlets.
[double] $seconds = $Timeout -is [timespan] ? $Timeout.TotalSeconds : ($Timeout -as [double]) ?? ([timespan] $Timeout).TotalSeconds
if ($seconds -le 0) { throw "-Timeout is '$Timeout'; it must be a positive time." }

# Watches the migration until it has ended. What it gives while that lasts shows whether the time is up.
function Wait-Save($Monitor, [string] $What) {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $Monitor | Get-QemuMigration -Watch | ForEach-Object {
        if (-not $_.HasEnded -and $clock.Elapsed.TotalSeconds -gt $seconds) { throw "The VM $What after $seconds s ($($_.Status))." }
        $_
    } | Select-Object -Last 1
}

# Saves the VM by QMP, and lets it run on if it ran before, whatever becomes of the save.
function Save-Vm([string] $Path, [string] $Destination) {
    $monitor = Connect-QemuMonitor -Path $Path -Timeout $seconds
    $ran = $saving = $false
    try {
        $ran = $monitor.State -eq 'running'
        $saving = $true
        $monitor | Invoke-QemuMonitorCommand migrate @{ uri = "file:$Destination" }
        $state = Wait-Save $monitor 'is not saved'
        if ($state.Phase -ne 'Completed') { throw "The VM could not be saved: $($state.Error)" }
    } finally {
        if ($saving) {
            $state = $monitor | Get-QemuMigration
            if (-not $state.HasEnded -and $state.Phase -ne 'None') {
                $monitor | Invoke-QemuMonitorCommand migrate_cancel
                $state = Wait-Save $monitor 'still stands, its save cannot be cancelled'
            }
            if ($ran -and $state.RunState -ne 'running') { $monitor | Invoke-QemuMonitorCommand cont }
        }
        $monitor | Disconnect-QemuMonitor
    }
}

# virtiofsd's arguments without those of an option, in both of its forms.
function Remove-Option([string[]] $Arguments, [string] $Name) {
    for ($i = 0; $i -lt $Arguments.Count; $i++) {
        if ($Arguments[$i] -eq $Name) { $i++ } elseif ($Arguments[$i] -notlike "$Name=*") { $Arguments[$i] }
    }
}

# Loads one state into a virtiofsd of its own; that ends by itself when its front-end leaves.
function Invoke-Load($Export, [string] $OnError) {
    $socket = Join-Path -Path $Folder -ChildPath 'scratch.sock'
    $log = Join-Path -Path $Folder -ChildPath 'virtiofsd.log'
    $more = Remove-Option (Remove-Option $VirtiofsdArgument '--migration-on-error') '--log-level'
    $arguments = @('--socket-path', $socket, '--shared-dir', $SharedDirectory) + @($more) + @('--log-level', 'info')
    # A virtiofsd before 1.11 does not know the option, and has no other way than abort.
    if ($OnError -ne 'abort') { $arguments += '--migration-on-error', $OnError }
    $start = [Diagnostics.ProcessStartInfo]::new('bash')
    @('-c', 'log=$1; shift; exec "$@" </dev/null >"$log" 2>&1', 'bash', $log, $Virtiofsd) + $arguments | ForEach-Object { $start.ArgumentList.Add($_) }
    $process = [Diagnostics.Process]::Start($start)
    try {
        $clock = [Diagnostics.Stopwatch]::StartNew()
        while (-not (Test-Path -LiteralPath $socket)) {
            if ($process.WaitForExit(20) -or $clock.Elapsed.TotalSeconds -gt 10) { throw "virtiofsd does not listen: $(Get-Content -LiteralPath $log -Raw)" }
        }
        $problems = $null
        $transfer = $Export | Start-VhostStateRestore -SocketPath $socket -ErrorAction SilentlyContinue -ErrorVariable problems
        # What it has to say is written when it has ended.
        $null = $process.WaitForExit(5000)
        $said = foreach ($line in Get-Content -LiteralPath $log) {
            if ($line -match '^\[\S+ (?:ERROR +\S+|WARN +\S*(?:device_state|vhost_user)\S*)\] (?<Text>.*)$') { $Matches.Text }
        }
        [pscustomobject]@{ Loaded = [bool]($transfer -and $transfer.Checked); Problem = "$($problems | Select-Object -First 1 | ForEach-Object { $_.Exception.Message })"; Said = @($said) }
    } finally {
        if (-not $process.HasExited) { $process.Kill() }
        $process.WaitForExit()
        Remove-Item -LiteralPath $socket, "$socket.pid" -ErrorAction Ignore
    }
}

function Test-State($Export) {
    $load = Invoke-Load $Export abort
    $whole = $load.Loaded -and $load.Said.Count -eq 0
    $missing = @($whole ? @() : $load.Said)
    $detail = 'virtiofsd loaded the state and found every file'
    if (-not $whole) {
        $detail = "$($load.Problem) $($missing | Select-Object -First 1)".Trim()
        $guest = Invoke-Load $Export guest-error
        if ($guest.Loaded) {
            $missing = $guest.Said
            $detail += " With --migration-on-error guest-error it would load without $($missing.Count) of its files and handles, and the guest would get errors for them."
        }
    }
    [pscustomobject]@{
        PSTypeName = 'VirtiofsMigrationTest'
        Passed     = $whole
        Device     = $Export.Device
        Bytes      = $Export.Bytes
        Sha256     = $Export.Sha256
        Detail     = $detail
        Missing    = [string[]] $missing
    }
}

$own = -not $Folder
if ($own) { $Folder = [IO.Directory]::CreateTempSubdirectory('virtiofs-test-').FullName }
try {
    if ($MonitorPath) {
        $StreamPath = Join-Path -Path $Folder -ChildPath 'vm.stream'
        Save-Vm -Path $MonitorPath -Destination $StreamPath
    }

    $report = Test-MigrationStream -Path $StreamPath
    if (-not $report.Passed) {
        $failed = $report.Checks.Where({ -not $_.Passed })[0]
        throw "The stream '$StreamPath' is not whole: $($failed.Detail) $($failed.RecommendedAction)"
    }

    $results = @(foreach ($export in Export-MigrationDeviceState -Path $StreamPath -Device $Device -Destination $Folder) { Test-State -Export $export })
    $results
} finally {
    if ($own) { Remove-Item -LiteralPath $Folder -Recurse -Force }
}

# As a program it says so with its exit code too.
if ($results.Where({ -not $_.Passed })) { exit 1 }
