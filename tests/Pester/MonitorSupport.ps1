# Scripted monitors (the engine's own server side of QMP) that end with their test, and the QEMUs of this machine. To be dot-sourced
# after Support.ps1.
$script:monitors = [Collections.Generic.List[object]]::new()
$script:connected = [Collections.Generic.List[object]]::new()
$script:qemus = [Collections.Generic.List[object]]::new()
$script:anyMember = [Reflection.BindingFlags]'Public,NonPublic,Static,Instance'

# A monitor that answers what a running VM answers, and what is given. The engine's types are not public: they are called by name.
function Start-Monitor {
    param([hashtable] $Answers = @{}, [string] $Path = (New-SocketPath))
    $engine = [AppDomain]::CurrentDomain.GetAssemblies().Where({ $_.GetName().Name -eq 'MigrationOps.Engine' })[-1]
    $table = [Collections.Generic.Dictionary[string, string]]::new()
    $usual = @{ 'query-status' = '{"status": "running", "running": true}'; 'query-name' = '{"name": "web01"}'; 'query-migrate' = '{}'; 'stop' = '{}'; 'cont' = '{}' }
    foreach ($set in $usual, $Answers) { foreach ($name in $set.Keys) { $table[$name] = $set[$name] } }
    $server = $engine.GetType('MigrationOps.Engine.Qmp.QmpServer').GetMethod('StartTable', $anyMember).Invoke($null, @($Path, $table))
    $monitor = [pscustomobject]@{ Path = $Path; Uri = "unix:$Path"; Server = $server; Answers = $table }
    $script:monitors.Add($monitor)
    $monitor
}

# The names of the commands that it received.
function Get-ReceivedCommand {
    param($Monitor)
    $property = $Monitor.Server.GetType().GetProperty('Commands', $anyMember)
    foreach ($command in $property.GetValue($Monitor.Server)) { $command.Name }
}

function Send-MonitorEvent {
    param($Monitor, [string] $Name, [string] $Data)
    $null = $Monitor.Server.GetType().GetMethod('SendEventTextAsync', $anyMember).Invoke($Monitor.Server, @($Name, $Data)).AsTask().Wait()
}

# A real QEMU with a monitor, or a skipped test with the reason.
function Start-Qemu {
    param([string] $Name = 'web01', [string[]] $ArgumentList = @())
    $program = Get-Command -Name qemu-system-x86_64 -CommandType Application -ErrorAction Ignore | Select-Object -First 1
    if (-not $program) { Set-ItResult -Skipped -Because 'qemu-system-x86_64 is not installed: tests/Interop/install-peers.sh installs it' }
    $path = New-SocketPath
    $start = [Diagnostics.ProcessStartInfo]::new($program.Source)
    '-name', $Name, '-M', 'q35', '-accel', 'tcg', '-m', '64', '-display', 'none', '-nodefaults', '-qmp', "unix:$path,server=on,wait=off" + $ArgumentList |
        ForEach-Object { $start.ArgumentList.Add($_) }
    $process = [Diagnostics.Process]::Start($start)
    $script:qemus.Add($process)
    Wait-Until { [bool](Get-Content -LiteralPath /proc/net/unix | Where-Object { $_ -match ' 00010000 ' -and $_.EndsWith(" $path") }) } 'the monitor of QEMU'
    [pscustomobject]@{ Path = $path; Process = $process }
}

function Stop-StartedMonitor {
    foreach ($monitor in $script:connected) { Disconnect-QemuMonitor -Monitor $monitor }
    $script:connected.Clear()
    foreach ($monitor in $script:monitors) { $monitor.Server.DisposeAsync().AsTask().Wait() }
    $script:monitors.Clear()
    foreach ($process in $script:qemus) { $process.Kill(); $process.WaitForExit() }
    $script:qemus.Clear()
}

# A connected monitor that is left with its test.
function Connect-Monitor {
    $monitor = Connect-QemuMonitor @args
    $script:connected.Add($monitor)
    $monitor
}
