#requires -Version 7.6
<#
.SYNOPSIS
    Saves the state of an embedded vhost-user back-end, verifies it, loads it into a second one and checks; then sends it
    from one to the other without a file.
#>
[CmdletBinding()]
param(
    # The module's manifest.
    [Parameter(Mandatory)]
    [string] $Module,

    # A folder for sockets and the state file.
    [Parameter(Mandatory)]
    [string] $Folder,

    # Bytes of the back-end's state.
    [long] $Size = 300MB
)

$ErrorActionPreference = 'Stop'
Import-Module -Name $Module

$source = Start-VhostBackend -SocketPath (Join-Path $Folder 'source.sock') -Size $Size
$target = Start-VhostBackend -SocketPath (Join-Path $Folder 'target.sock') -Size $Size
try {
    $saved = Start-VhostStateSave -SocketPath $source.SocketPath -Path (Join-Path $Folder 'device.state')

    $clock = [System.Diagnostics.Stopwatch]::StartNew()
    $report = $saved | Test-DeviceState
    $verified = $clock.Elapsed
    if (-not $report.Passed) {
        $report
        throw 'The state file did not pass.'
    }

    $loaded = $saved | Start-VhostStateRestore -SocketPath $target.SocketPath

    # Without a file: the destination listens in a job, the source connects. The state travels with its end mark and
    # digest, and the source hears from the destination that it was loaded.
    $uri = 'unix:' + (Join-Path $Folder 'wire.sock')
    $job = Start-VhostStateRestore -SocketPath $target.SocketPath -Uri $uri -AsJob
    while ($job.State -eq 'Running' -and -not (Test-Path (Join-Path $Folder 'wire.sock'))) {
        $null = $job.Finished.WaitOne(10)
    }
    $sent = Start-VhostStateSave -SocketPath $source.SocketPath -Uri $uri
    $received = $job | Wait-Job | Receive-Job -Wait -AutoRemoveJob

    function New-Row([string] $Step, [long] $Bytes, [timespan] $Duration, [string] $Result) {
        [pscustomobject]@{
            Step       = $Step
            Bytes      = '{0:N0}' -f $Bytes
            Duration   = '{0:N0} ms' -f $Duration.TotalMilliseconds
            Throughput = '{0:N0} MiB/s' -f ($Bytes / $Duration.TotalSeconds / 1MB)
            Result     = $Result
        }
    }
    $checked = 'checked by the back-end'
    @(
        New-Row 'save to file' $saved.Bytes $saved.Duration $checked
        New-Row 'verify file' $saved.Bytes $verified "$($report.Checks.Count) checks passed"
        New-Row 'load from file' $loaded.Bytes $loaded.Duration $checked
        New-Row 'save and send' $sent.Bytes $sent.Duration $checked
        New-Row 'receive and load' $received.Bytes $received.Duration $checked
    ) | Format-Table -AutoSize -Property Step,
        @{ Name = 'Bytes'; Expression = 'Bytes'; Alignment = 'Right' },
        @{ Name = 'Duration'; Expression = 'Duration'; Alignment = 'Right' },
        @{ Name = 'Throughput'; Expression = 'Throughput'; Alignment = 'Right' },
        Result
    "SHA-256 $($saved.Sha256)"
}
finally {
    $source, $target | Stop-VhostBackend
}
