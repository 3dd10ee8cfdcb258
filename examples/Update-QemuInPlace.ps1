<#
.SYNOPSIS
    Replaces the QEMU under a running guest by a new one on the same host, with a look at what is handed over in between.
.DESCRIPTION
    The old QEMU hands its descriptors (guest RAM above all) to this script instead of to the new one. The script compares
    them with the RAM blocks that the old QEMU says it has, shows them, lets you say no, and only then passes them on. QEMU's
    target by itself makes fresh memory for whatever is missing, and the guest's content would be lost without an error.

    Until the last step the guest runs on in the old QEMU, and every failure, and Ctrl-C, leaves it there.

    The new QEMU gets a session of its own: it outlives this shell, its terminal and its pipes. Its standard input is empty, and
    what it prints goes to -LogPath. That is what -daemonize is for, so -daemonize is left out of its arguments. Where logind ends a
    user's processes at the logout (KillUserProcesses=yes), run the script in a unit of its own: systemd-run --pty --scope pwsh.

    The old QEMU must be of version 10.0 or later and have been started for this: guest RAM in a memory-backend-memfd or
    memory-backend-file with share=on, and -machine aux-ram-share=on. What a memory-backend-file has is not handed over: the
    new QEMU opens the file by its path.
.EXAMPLE
    ./Update-QemuInPlace.ps1 -Monitor /run/vm/old.qmp -NewMonitor /run/vm/new.qmp -Program /usr/bin/qemu-system-x86_64 `
        -ArgumentList (Get-Content /etc/vm/web.args) -Review { $_ | Format-Table | Out-Host; Read-Host 'Continue? (yes)' }

    Moves the guest only if the answer is yes. Any other answer, an empty one too, leaves it in the old QEMU.
.OUTPUTS
    An object that says which process has the guest now, what was handed over and how long the guest stood still.
#>

#Requires -Version 7.6
#Requires -Modules MigrationOps
[CmdletBinding(SupportsShouldProcess, ConfirmImpact = 'High')]
[OutputType([pscustomobject])]
param(
    # The monitor (QMP, a UNIX socket) of the QEMU that runs the guest.
    [Parameter(Mandatory)]
    [ValidateNotNullOrEmpty()]
    [string] $Monitor,

    # Where the new QEMU shall have its monitor.
    [Parameter(Mandatory)]
    [ValidateNotNullOrEmpty()]
    [string] $NewMonitor,

    # The new QEMU.
    [Parameter(Mandatory)]
    [ValidateNotNullOrEmpty()]
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

    # Where the new QEMU's messages go. Without it: beside its monitor, as NEWMONITOR.log.
    [string] $LogPath,

    # How long one step may take, in seconds or as a TimeSpan.
    [ValidateNotNull()]
    [object] $Timeout = 30
)

Set-StrictMode -Version 3
$ErrorActionPreference = 'Stop'

# The question whether to continue is asked once, for the whole.
$PSDefaultParameterValues = @{ 'Invoke-QemuMonitorCommand:Confirm' = $false; 'Invoke-QemuMonitorCommand:WhatIf' = $false }

# A number is seconds, as in the cmdlets.
[double] $seconds = $Timeout -is [timespan] ? $Timeout.TotalSeconds : ($Timeout -as [double]) ?? ([timespan] $Timeout).TotalSeconds
if ($seconds -le 0) { throw "-Timeout is '$Timeout'; it must be a positive time." }

# QEMU and the kernel know nothing of PowerShell's current location.
$Monitor, $NewMonitor, $LogPath = $Monitor, $NewMonitor, ($LogPath ? $LogPath : "$NewMonitor.log") |
    ForEach-Object { $PSCmdlet.GetUnresolvedProviderPathFromPSPath($_) }

# Only a clear yes moves a guest: "no", "y", 1 and every other thing that PowerShell takes for true do not.
function Test-Consent($Answer) {
    ($Answer -is [bool] -and $Answer) -or ($Answer -is [string] -and $Answer.Trim() -eq 'yes')
}

function Wait-For([scriptblock] $Condition, [string] $What) {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    while (-not (& $Condition)) {
        if ($clock.Elapsed.TotalSeconds -gt $seconds) { throw "Not within $seconds s: $What." }
        Start-Sleep -Milliseconds 20
    }
}

# A socket's file is there a moment before a process listens on it; the kernel's list tells (flag 0x10000).
function Test-Listening([string] $Path) {
    [bool](Get-Content -LiteralPath /proc/net/unix | Where-Object { $_ -match ' 00010000 ' -and $_.EndsWith(" $Path") })
}

# The blocks of guest RAM by QEMU's own list, as entries that a set must have.
function Get-RamBlock($Connection) {
    $files = @($Connection | Invoke-QemuMonitorCommand qom-list @{ path = '/objects' } | Where-Object type -EQ 'child<memory-backend-file>' | ForEach-Object name)
    $text = $Connection | Invoke-QemuMonitorCommand human-monitor-command @{ 'command-line' = 'info ramblock' }
    foreach ($line in $text -split '\r?\n') {
        if ($line -match '^\s*(\S+)\s+\d+ [KMGTB]i?B?\s+0x[0-9a-f]+\s+0x[0-9a-f]+\s+0x([0-9a-f]+)' -and $Matches[1] -notin $files) {
            [MigrationOps.CprFd]@{ Name = $Matches[1]; Kind = 'MemFd'; Size = [Convert]::ToInt64($Matches[2], 16); Access = 'ReadWrite' }
        }
    }
}

function Get-Channel([string] $Type, [string] $Path) {
    @{ 'channel-type' = $Type; addr = @{ transport = 'socket'; type = 'unix'; path = $Path } }
}

# What the arguments ask for and a second QEMU beside the first cannot have. It is named before anything is touched.
function Test-Argument([string[]] $Arguments) {
    for ($i = 0; $i -lt $Arguments.Count; $i++) {
        $next = $i + 1 -lt $Arguments.Count ? $Arguments[$i + 1] : ''
        switch -Regex ($Arguments[$i]) {
            '^--?pidfile$' {
                $file = $PSCmdlet.GetUnresolvedProviderPathFromPSPath($next)
                $owner = (Test-Path -LiteralPath $file) ? (Get-Content -LiteralPath $file -Raw).Trim() : ''
                if ($owner -and (Test-Path -LiteralPath "/proc/$owner")) { throw "-pidfile '$next': process $owner has this file, and locks it until it ends. Leave -pidfile out or give the new QEMU another file." }
            }
            '^--?(qmp|qmp-pretty)$' { if ($next -like "unix:$Monitor,*" -or $next -eq "unix:$Monitor") { throw "-qmp '$next' is the old QEMU's monitor. Leave it out: the new one gets -NewMonitor." } }
            '^--?incoming$' { throw "-incoming '$next': leave it out, it is added here." }
            '(^|[,:])(fd|fds|vhostfd|vhostfds)=\d' { throw "'$($Arguments[$i])' names a descriptor that only the process that started the old QEMU had. Let the new QEMU open it by name." }
        }
    }
}

# The user as which a QEMU with these arguments runs.
function Get-RunAs([string[]] $Arguments) {
    $user = for ($i = 0; $i -lt $Arguments.Count - 1; $i++) {
        if ($Arguments[$i] -match '^--?runas$') { $Arguments[$i + 1] }
        if ($Arguments[$i] -match '^--?run-with$' -and $Arguments[$i + 1] -match '(?:^|,)user=([^,]+)') { $Matches[1] }
    }
    $user = "$($user | Select-Object -Last 1)" -replace ':.*$'
    if (-not $user) { return [uint] (id -u) }
    if ($user -match '^\d+$') { return [uint] $user }
    $number = id -u -- $user 2>&1
    if ($LASTEXITCODE) { throw "The new QEMU is to run as '$user': $number" }
    [uint] $number
}

$programPath = (Get-Command -Name $Program -CommandType Application -ErrorAction Ignore | Select-Object -First 1).Path
if (-not $programPath) { throw "There is no program '$Program'." }
foreach ($tool in 'bash', 'setsid') {
    if (-not (Get-Command -Name $tool -CommandType Application -ErrorAction Ignore)) { throw "This script needs '$tool', which gives the new QEMU a session of its own." }
}
Test-Argument $ArgumentList
if (Test-Listening $NewMonitor) { throw "A process listens on '$NewMonitor' already. Give the new QEMU another monitor." }

$folder = $old = $new = $process = $job = $null
$touched = $handedOver = $false
try {
    $old = Connect-QemuMonitor -Path $Monitor -Timeout $seconds
    if ($old.State -ne 'running') { throw "The guest is '$($old.State)', not running." }
    $blocks = @(Get-RamBlock $old)
    [uint] $self = id -u
    [uint] $oldUser = ((Get-Content -LiteralPath "/proc/$($old.ProcessId)/status") -match '^Uid:')[0].Split("`t")[2]
    [uint] $newUser = Get-RunAs $ArgumentList
    $others = @($oldUser, $newUser | Where-Object { $_ -ne $self } | Select-Object -Unique)
    if ($others -and $self -ne 0) { throw "The old QEMU runs as user $oldUser, the new one as $newUser, and this is user ${self}: run the script as root." }
    if ($others.Count -gt 1) { throw "The old QEMU runs as user $oldUser and the new one as user ${newUser}: they cannot meet. Let the new one run as $oldUser." }
    if (-not $PSCmdlet.ShouldProcess("the guest of QEMU $($old.Version) at $Monitor", "Hand over to $Program")) { return }

    # Root reaches what the other user owns; the other user would not reach what root owns.
    $folder = [IO.Directory]::CreateTempSubdirectory('update-qemu-').FullName
    $sockets = @{ In = "$folder/in"; Out = "$folder/out"; Main = "$folder/main" }
    if ($others) { chown -- $others[0] $folder; if ($LASTEXITCODE) { throw "'$folder' cannot be given to user $($others[0])." } }

    # 1. Receive the set. The old QEMU waits until we close the channel.
    $job = Restore-CprState -Uri "unix:$($sockets.In)" -AllowUid (@($self, $oldUser) | Select-Object -Unique) -Timeout $seconds -AsJob
    $touched = $true
    $old | Invoke-QemuMonitorCommand migrate-set-parameters @{ mode = 'cpr-transfer' }
    $old | Invoke-QemuMonitorCommand migrate @{ channels = @((Get-Channel main $sockets.Main), (Get-Channel cpr $sockets.In)) }
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

    # 3. Start the new QEMU, and pass the set on. It has no monitor before it has taken it. It keeps nothing of ours: no descriptor,
    #    no terminal, no process group - the end of this shell must not be the guest's.
    $incoming = 'cpr', 'main' | ForEach-Object { '-incoming'; Get-Channel $_ $sockets[$_ -eq 'cpr' ? 'Out' : 'Main'] | ConvertTo-Json -Compress }
    $start = [Diagnostics.ProcessStartInfo]::new('bash')
    $start.WorkingDirectory = (Get-Location -PSProvider FileSystem).ProviderPath
    $detach = 'for f in /proc/self/fd/*; do f=${f##*/}; if [ "$f" -gt 2 ]; then eval "exec $f>&-"; fi; done; log=$1; shift; exec setsid -- "$@" </dev/null >>"$log" 2>&1'
    $wanted = @($ArgumentList | Where-Object { $_ -notmatch '^--?daemonize$' })
    if ($wanted.Count -lt $ArgumentList.Count) { Write-Verbose '-daemonize is left out: the new QEMU has a session of its own, and this script waits until it is ready.' }
    @('-c', $detach, 'bash', $LogPath, $programPath) + $wanted + $incoming + @('-qmp', "unix:$NewMonitor,server=on,wait=off") | ForEach-Object { $start.ArgumentList.Add($_) }
    $logged = (Test-Path -LiteralPath $LogPath) ? (Get-Item -LiteralPath $LogPath).Length : 0
    $process = [Diagnostics.Process]::Start($start)
    $alive = {
        if ($process.HasExited) {
            $log = [IO.File]::OpenRead($LogPath)
            try { $log.Position = $logged; $said = [IO.StreamReader]::new($log).ReadToEnd().Trim() } finally { $log.Dispose() }
            throw "The new QEMU ended at once with exit code $($process.ExitCode): $said"
        }
    }
    Wait-For { & $alive; Test-Listening $sockets.Out } 'the new QEMU listens'
    $transfer = $set | Save-CprState -Uri "unix:$($sockets.Out)" -Timeout $seconds -Confirm:$false
    Wait-For { & $alive; (Test-Listening $NewMonitor) -and (Test-Listening $sockets.Main) } 'the new QEMU has its monitor'
    if ($oldUser -ne $self) { chown -- $oldUser $sockets.Main; if ($LASTEXITCODE) { throw "'$($sockets.Main)' cannot be given to user $oldUser." } }
    $new = Connect-QemuMonitor -Path $NewMonitor -Timeout $seconds

    # 4. Let the old QEMU continue with its main channel: now the guest moves.
    Close-CprState -Confirm:$false
    Wait-For { ($old | Get-QemuMigration).HasEnded } 'the migration ends'
    $migration = $old | Get-QemuMigration
    if ($migration.Phase -ne 'Completed') { throw "The migration is $($migration.Status): $($migration.Error)" }
    $handedOver = $true
    Wait-For { ($new | Get-QemuMigration).RunState -eq 'running' } 'the guest runs in the new QEMU'
    $old | Invoke-QemuMonitorCommand quit
    [pscustomobject]@{
        ProcessId    = $process.Id
        Monitor      = $NewMonitor
        LogPath      = $LogPath
        FromVersion  = $old.Version
        ToVersion    = $new.Version
        Descriptors  = $transfer.Entries
        MemoryBytes  = ($set | Measure-Object -Property Size -Sum).Sum
        Downtime     = $migration.Downtime
    }
}
finally {
    # Not in a catch: Ctrl-C at the review comes by here only.
    try {
        if ($touched -and -not $handedOver) {
            # The guest is still in the old QEMU: stop the migration there, let go of everything, and see that it runs.
            $ended = { ($state = $old | Get-QemuMigration).HasEnded -or $state.Phase -eq 'None' }
            if (-not (& $ended)) { $old | Invoke-QemuMonitorCommand migrate_cancel }
            Close-CprState -Confirm:$false
            Wait-For $ended 'the old QEMU has given the migration up'
            if (($state = $old | Get-QemuMigration).Phase -eq 'Completed') {
                # It moved in the meantime: whoever ends the new QEMU now ends the guest.
                Write-Warning "The guest is in the new QEMU (process $($process.Id), monitor $NewMonitor). The old one at $Monitor is stopped; end it with quit."
            }
            else {
                if ($process -and -not $process.HasExited) { $process.Kill() }
                if ($state.RunState -in 'paused', 'postmigrate', 'finish-migrate') { $old | Invoke-QemuMonitorCommand cont }
            }
        }
    }
    finally {
        if ($job) { Remove-Job -Job $job -Force }
        foreach ($connection in $old, $new) { if ($connection) { $connection | Disconnect-QemuMonitor } }
        if ($folder) { Remove-Item -LiteralPath $folder -Recurse -Force -WhatIf:$false -Confirm:$false }
    }
}
