#requires -Version 7.6
<#
.SYNOPSIS
    Finds out whether a VM's virtiofs state would load on this host, before anything is migrated.
.DESCRIPTION
    Saves the VM to a file (or takes a stream that is there already), tests that the stream is whole, pulls the state of
    every virtiofsd out of it, loads each into a scratch virtiofsd that shares the destination's directory, and asks
    that virtiofsd whether it accepted everything. The VM runs on afterwards; the scratch virtiofsd is gone.

    While it is saved the VM stands still. Its memory goes into the file as well: keep the folder private.
.EXAMPLE
    ./Test-VirtiofsMigration.ps1 -MonitorPath /run/vm0.qmp -Virtiofsd /usr/libexec/virtiofsd -SharedDirectory /srv/share

    One object per virtiofsd, with Passed and the reason.
.EXAMPLE
    ./Test-VirtiofsMigration.ps1 -StreamPath ./vm0.stream -Virtiofsd /usr/libexec/virtiofsd -SharedDirectory /srv/share

    The same with a stream that was saved on another host.
#>
[CmdletBinding(DefaultParameterSetName = 'Monitor')]
param(
    # The VM's QMP socket. Nobody else may be connected to it.
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

    # The longest wait for the save.
    [timespan] $Timeout = '00:05:00'
)

Set-StrictMode -Version 3
$ErrorActionPreference = 'Stop'
if (-not (Get-Module -Name MigrationOps)) { Import-Module -Name MigrationOps }

# Saves the VM by QMP, and lets it run on if it ran before.
function Save-Vm([string] $Monitor, [string] $Path) {
    $socket = [Net.Sockets.Socket]::new('Unix', 'Stream', 'Unspecified')
    try {
        $socket.ReceiveTimeout = $Timeout.TotalMilliseconds
        $socket.Connect([Net.Sockets.UnixDomainSocketEndPoint]::new($Monitor))
        $reader = [IO.StreamReader]::new([Net.Sockets.NetworkStream]::new($socket))
        $next = { $reader.ReadLine() ?? $(throw "The monitor '$Monitor' closed.") | ConvertFrom-Json -AsHashtable }
        $run = {
            param($Name, $Argument = @{})
            $null = $socket.Send([Text.Encoding]::UTF8.GetBytes((@{ execute = $Name; arguments = $Argument } | ConvertTo-Json -Depth 5 -Compress) + "`n"))
            do { $reply = & $next } until ($reply.ContainsKey('return') -or $reply.ContainsKey('error'))
            if ($reply.ContainsKey('error')) { throw "${Name}: $($reply.error.desc)" }
            $reply.return
        }
        $null = & $next
        $null = & $run 'qmp_capabilities'
        $ran = (& $run 'query-status').running
        $null = & $run 'migrate-set-capabilities' @{ capabilities = @(@{ capability = 'events'; state = $true }) }
        $null = & $run 'migrate' @{ uri = "file:$Path" }
        do {
            $message = & $next
            $status = if ($message['event'] -eq 'MIGRATION') { $message.data.status } else { '' }
        } until ($status -in 'completed', 'failed', 'cancelled')
        if ($status -ne 'completed') { throw "The VM could not be saved: $((& $run 'query-migrate')['error-desc'])" }
        if ($ran) { $null = & $run 'cont' }
    } finally {
        $socket.Dispose()
    }
}

# Loads one state into a virtiofsd of its own; that ends by itself when its front-end leaves.
function Test-State($Export) {
    $socket = Join-Path -Path $Folder -ChildPath 'scratch.sock'
    $arguments = @('--socket-path', $socket, '--shared-dir', $SharedDirectory) + $VirtiofsdArgument
    $log = Join-Path -Path $Folder -ChildPath 'virtiofsd.log'
    $process = Start-Process -FilePath $Virtiofsd -ArgumentList $arguments -PassThru -RedirectStandardError $log
    try {
        $clock = [Diagnostics.Stopwatch]::StartNew()
        while (-not (Test-Path -LiteralPath $socket)) {
            if ($process.WaitForExit(20) -or $clock.Elapsed.TotalSeconds -gt 10) { throw "virtiofsd does not listen: $(Get-Content -LiteralPath $log -Raw)" }
        }
        $failure = ''
        $transfer = $Export | Start-VhostStateRestore -SocketPath $socket -ErrorAction SilentlyContinue -ErrorVariable problems
        if ($problems) { $failure = "$($problems[0].Exception.Message) $(Get-Content -LiteralPath $log -Tail 1)" }
        [pscustomobject]@{
            PSTypeName = 'VirtiofsMigrationTest'
            Passed     = [bool]($transfer -and $transfer.Checked)
            Device     = $Export.Device
            Bytes      = $Export.Bytes
            Sha256     = $Export.Sha256
            Detail     = if ($failure) { $failure } else { 'virtiofsd loaded the state and found every file' }
        }
    } finally {
        if (-not $process.HasExited) { $process.Kill() }
        $process.WaitForExit()
        Remove-Item -LiteralPath $socket, "$socket.pid" -ErrorAction Ignore
    }
}

$own = -not $Folder
if ($own) { $Folder = [IO.Directory]::CreateTempSubdirectory('virtiofs-test-').FullName }
try {
    if ($MonitorPath) {
        $StreamPath = Join-Path -Path $Folder -ChildPath 'vm.stream'
        Save-Vm -Monitor $MonitorPath -Path $StreamPath
    }

    $report = Test-MigrationStream -Path $StreamPath
    if (-not $report.Passed) {
        $failed = $report.Checks.Where({ -not $_.Passed })[0]
        throw "The stream '$StreamPath' is not whole: $($failed.Detail) $($failed.RecommendedAction)"
    }

    foreach ($export in Export-MigrationDeviceState -Path $StreamPath -Device $Device -Destination $Folder) {
        Test-State -Export $export
    }
} finally {
    if ($own) { Remove-Item -LiteralPath $Folder -Recurse -Force }
}
