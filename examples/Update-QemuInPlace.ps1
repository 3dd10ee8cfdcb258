#Requires -Version 7.6
#Requires -Modules MigrationOps
<#
.SYNOPSIS
    Replaces the QEMU under a running guest by a new one on the same host, with a look at what is handed over in between.
.DESCRIPTION
    The old QEMU hands its descriptors (guest RAM above all) to this script instead of to the new one. The script compares
    them with the RAM blocks that the old QEMU says it has, shows them, lets you say no, and only then passes them on. QEMU's
    target by itself makes fresh memory for whatever is missing, and the guest's content would be lost without a word.

    Until the last step the guest runs on in the old QEMU, and every failure leaves it there.

    The old QEMU must be of version 10.0 or later and have been started for this: guest RAM in a memory-backend-memfd or
    memory-backend-file with share=on, and -machine aux-ram-share=on. What a memory-backend-file has is not handed over: the
    new QEMU opens the file by its path.
.EXAMPLE
    ./Update-QemuInPlace.ps1 -Monitor /run/vm/old.qmp -NewMonitor /run/vm/new.qmp -Program /usr/bin/qemu-system-x86_64 `
        -ArgumentList (Get-Content /etc/vm/web.args) -Review { $_ | Format-Table | Out-Host; Read-Host 'Go on? (yes)' }

    Moves the guest only if the answer is yes. Any other answer, an empty one too, leaves it in the old QEMU.
.OUTPUTS
    An object that says which process has the guest now, what was handed over and how long the guest stood still.
#>
[CmdletBinding(SupportsShouldProcess, ConfirmImpact = 'High')]
param(
    # The monitor (QMP, a UNIX socket) of the QEMU that runs the guest.
    [Parameter(Mandatory)]
    [string] $Monitor,

    # Where the new QEMU shall have its monitor.
    [Parameter(Mandatory)]
    [string] $NewMonitor,

    # The new QEMU.
    [Parameter(Mandatory)]
    [string] $Program,

    # Its arguments: those of the old one. -qmp and -incoming are added here.
    [Parameter(Mandatory)]
    [string[]] $ArgumentList,

    # Looks at the set, which is in $_, and says whether to hand it over. The last thing that it gives is the answer, and only
    # $true or the word yes is one: whatever else it gives, or nothing at all, leaves the guest in the old QEMU.
    [scriptblock] $Review = { $true },

    # A description of an earlier hand-over of this guest (Save-CprState -Path) that the set must agree with.
    [string] $ReferencePath,

    # Where the description of this hand-over goes.
    [string] $DescriptionPath,

    # How long one step may take, in seconds.
    [double] $Timeout = 30
)

Set-StrictMode -Version 3
$ErrorActionPreference = 'Stop'

# QEMU and the kernel know nothing of PowerShell's current location.
$Monitor, $NewMonitor = $Monitor, $NewMonitor | ForEach-Object { $PSCmdlet.GetUnresolvedProviderPathFromPSPath($_) }

# A monitor that answers commands.
function Connect-Monitor([string] $Path) {
    $socket = [Net.Sockets.Socket]::new('Unix', 'Stream', 'Unspecified')
    $socket.ReceiveTimeout = $Timeout * 1000
    $socket.Connect([Net.Sockets.UnixDomainSocketEndPoint]::new($Path))
    $stream = [Net.Sockets.NetworkStream]::new($socket, $true)
    $connection = [pscustomobject]@{ Stream = $stream; Reader = [IO.StreamReader]::new($stream) }
    $null = $connection.Reader.ReadLine()
    $null = Invoke-Monitor $connection qmp_capabilities
    $connection
}

function Invoke-Monitor($Connection, [string] $Command, [hashtable] $Arguments = @{}) {
    $Connection.Stream.Write([Text.Encoding]::UTF8.GetBytes((@{ execute = $Command; arguments = $Arguments } | ConvertTo-Json -Depth 9 -Compress) + "`n"))
    while ($line = $Connection.Reader.ReadLine()) {
        $reply = $line | ConvertFrom-Json -AsHashtable
        if ($reply.ContainsKey('error')) { throw "$Command`: $($reply.error.desc)" }
        if ($reply.ContainsKey('return')) { return $reply.return }
    }

    throw "The monitor closed during $Command."
}

# Only a clear yes moves a guest: "no", "y", 1 and every other thing that PowerShell takes for true do not.
function Test-Consent($Answer) {
    ($Answer -is [bool] -and $Answer) -or ($Answer -is [string] -and $Answer.Trim() -eq 'yes')
}

function Wait-For([scriptblock] $Condition, [string] $What) {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    while (-not (& $Condition)) {
        if ($clock.Elapsed.TotalSeconds -gt $Timeout) { throw "Not within $Timeout s: $What." }
        Start-Sleep -Milliseconds 20
    }
}

# A socket's file is there a moment before somebody listens on it; the kernel's list tells (flag 0x10000).
function Test-Listening([string] $Path) {
    [bool](Get-Content -LiteralPath /proc/net/unix | Where-Object { $_ -match ' 00010000 ' -and $_.EndsWith(" $Path") })
}

# The blocks of guest RAM by QEMU's own list, as entries that a set must have.
function Get-RamBlock($Connection) {
    $files = @(Invoke-Monitor $Connection qom-list @{ path = '/objects' } | Where-Object type -EQ 'child<memory-backend-file>' | ForEach-Object name)
    $text = Invoke-Monitor $Connection human-monitor-command @{ 'command-line' = 'info ramblock' }
    foreach ($line in $text -split '\r?\n') {
        if ($line -match '^\s*(\S+)\s+\d+ [KMGTB]i?B?\s+0x[0-9a-f]+\s+0x[0-9a-f]+\s+0x([0-9a-f]+)' -and $Matches[1] -notin $files) {
            [MigrationOps.CprFd]@{ Name = $Matches[1]; Kind = 'MemFd'; Size = [Convert]::ToInt64($Matches[2], 16); Access = 'ReadWrite' }
        }
    }
}

function Get-Channel([string] $Type, [string] $Path) {
    @{ 'channel-type' = $Type; addr = @{ transport = 'socket'; type = 'unix'; path = $Path } }
}

$folder = [IO.Directory]::CreateTempSubdirectory('update-qemu-').FullName
$sockets = @{ In = "$folder/in"; Out = "$folder/out"; Main = "$folder/main" }
$old = $new = $process = $job = $null
$handedOver = $false
try {
    $old = Connect-Monitor $Monitor
    $status = (Invoke-Monitor $old query-status).status
    if ($status -ne 'running') { throw "The guest is '$status', not running." }
    $version = (Invoke-Monitor $old query-version).qemu
    $blocks = @(Get-RamBlock $old)
    if (-not $PSCmdlet.ShouldProcess("the guest of QEMU $($version.major).$($version.minor).$($version.micro) at $Monitor", "Hand over to $Program")) { return }

    # 1. Receive the set. The old QEMU waits until we close the channel.
    $job = Restore-CprState -Uri "unix:$($sockets.In)" -Timeout $Timeout -AsJob
    $null = Invoke-Monitor $old migrate-set-parameters @{ mode = 'cpr-transfer' }
    $null = Invoke-Monitor $old migrate @{ channels = @((Get-Channel main $sockets.Main), (Get-Channel cpr $sockets.In)) }
    $set = @($job | Receive-Job -Wait)

    # 2. Check it, and let the operator look.
    $checks = @{ CprState = $set; Reference = $blocks }
    if ($ReferencePath) { $checks.ReferencePath = $ReferencePath }
    $report = Test-DeviceState @checks
    $report.Checks | ForEach-Object { Write-Verbose "$_" }
    if (-not $report.Passed) {
        throw "The set is not fit to be handed over: $(($report.Checks | Where-Object -Not Passed | ForEach-Object Detail) -join '; ')"
    }

    # -InputObject gives the set as a whole.
    $answer = ForEach-Object -InputObject $set -Process $Review | Select-Object -Last 1
    if (-not (Test-Consent $answer)) {
        throw "The review did not say yes: expected `$true or 'yes', found $(if ($null -eq $answer) { 'nothing' } else { "'$answer'" }). The guest stays in the old QEMU."
    }

    if ($DescriptionPath) { $null = $set | Save-CprState -Path $DescriptionPath -Confirm:$false }

    # 3. Start the new QEMU, and pass the set on. It has no monitor before it has taken it.
    $incoming = 'cpr', 'main' | ForEach-Object { '-incoming'; Get-Channel $_ $sockets[$_ -eq 'cpr' ? 'Out' : 'Main'] | ConvertTo-Json -Compress }
    $start = [Diagnostics.ProcessStartInfo]::new($Program)
    @($ArgumentList) + $incoming + @('-qmp', "unix:$NewMonitor,server=on,wait=off") | ForEach-Object { $start.ArgumentList.Add($_) }
    $process = [Diagnostics.Process]::Start($start)
    Wait-For { if ($process.HasExited) { throw "The new QEMU ended at once with exit code $($process.ExitCode)." }; Test-Listening $sockets.Out } 'the new QEMU listens'
    $transfer = $set | Save-CprState -Uri "unix:$($sockets.Out)" -Timeout $Timeout -Confirm:$false
    Wait-For { Test-Listening $NewMonitor } 'the new QEMU has its monitor'
    $new = Connect-Monitor $NewMonitor

    # 4. Let the old QEMU go on with its main channel: now the guest moves.
    Close-CprState -Confirm:$false
    Wait-For { (Invoke-Monitor $old query-migrate).status -in 'completed', 'failed', 'cancelled' } 'the migration ends'
    $migration = Invoke-Monitor $old query-migrate
    if ($migration.status -ne 'completed') { throw "The migration is $($migration.status): $($migration['error-desc'])" }
    $handedOver = $true
    Wait-For { (Invoke-Monitor $new query-status).status -eq 'running' } 'the guest runs in the new QEMU'
    $null = Invoke-Monitor $old quit
    $now = (Invoke-Monitor $new query-version).qemu
    [pscustomobject]@{
        ProcessId    = $process.Id
        Monitor      = $NewMonitor
        FromVersion  = "$($version.major).$($version.minor).$($version.micro)"
        ToVersion    = "$($now.major).$($now.minor).$($now.micro)"
        Descriptors  = $transfer.Entries
        MemoryBytes  = ($set | Measure-Object -Property Size -Sum).Sum
        Downtime     = [TimeSpan]::FromMilliseconds($migration.downtime)
    }
}
catch {
    if ($old -and -not $handedOver) {
        # The guest is still in the old QEMU: stop the migration there, let go of everything, and see that it runs.
        $null = Invoke-Monitor $old migrate_cancel
        Close-CprState -Confirm:$false
        if ($process -and -not $process.HasExited) { $process.Kill() }
        Wait-For { (Invoke-Monitor $old query-migrate).status -in 'cancelled', 'failed' } 'the old QEMU has given the migration up'
        if ((Invoke-Monitor $old query-status).status -in 'paused', 'postmigrate', 'finish-migrate') { $null = Invoke-Monitor $old cont }
    }

    throw
}
finally {
    if ($job) { Remove-Job -Job $job -Force }
    foreach ($connection in $old, $new) { if ($connection) { $connection.Stream.Dispose() } }
    Remove-Item -LiteralPath $folder -Recurse -Force -WhatIf:$false -Confirm:$false
}
