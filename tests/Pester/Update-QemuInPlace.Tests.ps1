BeforeDiscovery {
    $qemus = foreach ($name in 'qemu-system-x86_64', 'qemu-system-x86_64-newer') {
        $peers = $env:MIGRATIONOPS_PEERS ? $env:MIGRATIONOPS_PEERS : "$HOME/.cache/migrationops/peers"
        $path = "$peers/bin/$name"
        if (-not (Test-Path -LiteralPath $path)) { $path = (Get-Command -Name $name -CommandType Application -ErrorAction Ignore | Select-Object -First 1).Path }
        @{ Name = $name; Path = $path }
    }

    $missing = @($qemus | Where-Object { -not $_.Path })
    $qemus = @($qemus | Where-Object { $_.Path })
}

BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    $example = "$repository/examples/Update-QemuInPlace.ps1"
    $ErrorActionPreference = 'Stop'

    # A firmware that counts in memory at 0x7e00: cli; xor ax,ax; mov ds,ax; again: add dword [0x7e00],1; adc dword
    # [0x7e04],0; jmp again - and a jump to it at the reset vector.
    $rom = [byte[]]::new(65536)
    [byte[]]$code = 0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x66, 0x83, 0x06, 0x00, 0x7e, 0x01, 0x66, 0x83, 0x16, 0x04, 0x7e, 0x00, 0xeb, 0xf2
    $code.CopyTo($rom, 0xff00)
    [byte[]]$jump = 0xe9, 0x0d, 0xff
    $jump.CopyTo($rom, 0xfff0)
    [IO.File]::WriteAllBytes("$TestDrive/count.rom", $rom)
    $accelerator = try { [IO.File]::Open('/dev/kvm', 'Open', 'ReadWrite').Dispose(); 'kvm' } catch { 'tcg' }
    $arguments = '-M', 'q35,memory-backend=m0,aux-ram-share=on', '-accel', $accelerator, '-object', 'memory-backend-memfd,id=m0,size=64M,share=on',
    '-bios', "$TestDrive/count.rom", '-display', 'none', '-nodefaults'

    function Invoke-Qmp([string] $Monitor, [string] $Command, [hashtable] $Arguments = @{}) {
        Invoke-QemuMonitorCommand -Monitor $Monitor $Command $Arguments
    }

    function Get-Counter([string] $Monitor) {
        $text = Invoke-Qmp $Monitor human-monitor-command @{ 'command-line' = 'xp /1gx 0x7e00' }
        [Convert]::ToUInt64(($text -split '0x')[-1].Trim(), 16)
    }
}

# An empty list is an error for Pester 6.
if ($missing) {
    Describe 'Update-QemuInPlace.ps1 with <Name>' -ForEach $missing {
        It 'is tried with it' {
            Set-ItResult -Skipped -Because "$Name is not installed. Install the peers with tests/Interop/install-peers.sh"
        }
    }
}

if (-not $qemus) { return }

Describe 'Update-QemuInPlace.ps1 with <Name>' -ForEach $qemus {
    BeforeEach {
        $folder = [IO.Directory]::CreateTempSubdirectory('mo-').FullName
        $oldMonitor, $newMonitor = "$folder/old", "$folder/new"
        $old = Start-Process -FilePath $Path -ArgumentList ($arguments + @('-qmp', "unix:$oldMonitor,server=on,wait=off")) -PassThru -RedirectStandardError "$folder/log" -RedirectStandardOutput "$folder/out.log"
        Wait-Until { (Get-Content /proc/net/unix | Where-Object { $_ -match ' 00010000 ' -and $_.EndsWith(" $oldMonitor") }) -and (Get-Counter $oldMonitor) -gt 1000 } 'the guest counts'
        $options = @{ Monitor = $oldMonitor; NewMonitor = $newMonitor; Program = $Path; ArgumentList = $arguments; Confirm = $false }
        $descriptors = (Get-ChildItem /proc/self/fd).Count
    }

    AfterEach {
        # Every process that has this test's folder in its arguments is this test's.
        foreach ($process in Get-Process -Name 'qemu-system-*' | Where-Object CommandLine -Like "*$folder*") {
            $process.Kill()
            $process.WaitForExit()
        }

        Remove-Item -LiteralPath $folder -Recurse -Force
    }

    It 'moves the guest to the new process, where it counts on, and describes what it handed over' {
        $before = Get-Counter $oldMonitor
        $reviewed = [Collections.Generic.List[string]]::new()
        $result = & $example @options -DescriptionPath "$folder/set.json" -Review { $reviewed.AddRange([string[]]$_.Name); $true }
        (Get-Process -Id $result.ProcessId).HasExited | Should -BeFalse
        $result.Descriptors | Should -BeGreaterOrEqual 6
        $reviewed | Should -Contain 'm0'
        $after = Get-Counter $newMonitor
        $after | Should -BeGreaterOrEqual $before
        Wait-Until { (Get-Counter $newMonitor) -gt $after } 'the guest counts on'
        $null = $old.WaitForExit(5000)
        $old.HasExited | Should -BeTrue
        (Get-Content "$folder/set.json" | ConvertFrom-Json).entries.name | Should -Contain 'm0'
        Get-CprFd | Should -BeNullOrEmpty
    }

    It 'moves the guest when the review says yes in so many words' {
        $result = & $example @options -Review { 'a table for the operator'; ' Yes ' }
        (Invoke-Qmp $newMonitor query-status).status | Should -Be 'running'
        $result.Descriptors | Should -BeGreaterThan 0
    }

    It 'leaves the guest where it is when the review says <Name>' -ForEach @(
        @{ Name = 'false'; Review = { $false }; Found = "'False'" }
        @{ Name = 'no'; Review = { 'no' }; Found = "'no'" }
        @{ Name = 'y'; Review = { 'y' }; Found = "'y'" }
        @{ Name = 'true as a word'; Review = { 'True' }; Found = "'True'" }
        @{ Name = 'a number'; Review = { 1 }; Found = "'1'" }
        @{ Name = 'yes and then no'; Review = { 'yes'; 'no' }; Found = "'no'" }
        @{ Name = 'an empty answer'; Review = { '' }; Found = "''" }
        @{ Name = 'nothing'; Review = { }; Found = 'nothing' }
    ) {
        { & $example @options -Review $Review } | Should -Throw "The review did not say yes: expected `$true or 'yes', found $Found.*"
        $newMonitor | Should -Not -Exist
        Get-CprFd | Should -BeNullOrEmpty
        $counter = Get-Counter $oldMonitor
        Wait-Until { (Get-Counter $oldMonitor) -gt $counter } 'the guest counts on'
    }

    It 'leaves the guest where it is when the new process does not start' {
        $options.ArgumentList = @('-M', 'no-such-machine')
        { & $example @options } | Should -Throw 'The new QEMU ended at once*'
        $counter = Get-Counter $oldMonitor
        Wait-Until { (Get-Counter $oldMonitor) -gt $counter } 'the guest counts on'
    }

    It 'leaves the guest where it is when the new process refuses the memory' {
        $options.ArgumentList = $arguments -replace 'size=64M', 'size=128M'
        { & $example @options } | Should -Throw '*ended instead of taking over*'
        $counter = Get-Counter $oldMonitor
        Wait-Until { (Get-Counter $oldMonitor) -gt $counter } 'the guest counts on'
    }

    It 'hands nothing over that disagrees with an earlier description' {
        $null = Register-CprFd m0 -MemFd other -Size 1MB
        $null = Save-CprState -Path "$folder/other.json"
        Close-CprState
        { & $example @options -ReferencePath "$folder/other.json" } | Should -Throw '*67,108,864 bytes, not 1,048,576*'
        $counter = Get-Counter $oldMonitor
        Wait-Until { (Get-Counter $oldMonitor) -gt $counter } 'the guest counts on'
    }

    It 'gives the new process a session of its own and nothing of this one' {
        $result = & $example @options
        $stat = (Get-Content -LiteralPath "/proc/$($result.ProcessId)/stat") -replace '^.*\) ' -split ' '
        $stat[3] | Should -Be $result.ProcessId -Because 'it leads its session'
        $stat[4] | Should -Be 0 -Because 'it has no terminal'
        (Get-Item -LiteralPath "/proc/$($result.ProcessId)/fd/0").LinkTarget | Should -Be '/dev/null'
        1, 2 | ForEach-Object { (Get-Item -LiteralPath "/proc/$($result.ProcessId)/fd/$_").LinkTarget | Should -Be $result.LogPath }
        $ours = Get-ChildItem -LiteralPath /proc/self/fd | ForEach-Object LinkTarget | Where-Object { $_ -match '^(pipe|socket):' }
        Get-ChildItem -LiteralPath "/proc/$($result.ProcessId)/fd" | ForEach-Object LinkTarget | Should -Not -BeIn $ours
    }

    It 'tells the process that has the guest when it was asked to -daemonize' {
        $options.ArgumentList = $arguments + '-daemonize'
        $result = & $example @options
        (Get-Process -Id $result.ProcessId).CommandLine | Should -BeLike "*$newMonitor*"
        (Get-Process -Id $result.ProcessId).CommandLine | Should -Not -BeLike '*-daemonize*'
    }

    It 'moves a guest whose processes run as another user' {
        if ((id -u) -ne 0) { Set-ItResult -Skipped -Because 'only root can start a QEMU that becomes another user'; return }
        $old.Kill()
        $old.WaitForExit()
        $options.ArgumentList = $arguments + @('-run-with', 'user=nobody')
        $old = Start-Process -FilePath $Path -ArgumentList ($options.ArgumentList + @('-qmp', "unix:$oldMonitor,server=on,wait=off")) -PassThru -RedirectStandardError "$folder/log2" -RedirectStandardOutput "$folder/out2.log"
        Wait-Until { (Get-Content /proc/net/unix | Where-Object { $_ -match ' 00010000 ' -and $_.EndsWith(" $oldMonitor") }) -and (Get-Counter $oldMonitor) -gt 1000 } 'the guest counts'
        $result = & $example @options
        (Get-Content -LiteralPath "/proc/$($result.ProcessId)/status") -match '^Uid:' | Should -BeLike "Uid:`t$(id -u nobody)`t*"
        $after = Get-Counter $newMonitor
        Wait-Until { (Get-Counter $newMonitor) -gt $after } 'the guest counts on'
    }

    It 'leaves nothing half done in the old process when it is stopped at the review' {
        $shell = [PowerShell]::Create()
        $shell.AddScript({ param($Module, $Example, $Options, $Reached) Import-Module $Module; & $Example @Options -Review { [IO.File]::WriteAllText($Reached, ''); while ($true) { Start-Sleep 1 } } }).
            AddArgument((Get-Module MigrationOps).Path).AddArgument($example).AddArgument($options).AddArgument("$folder/reached") | Out-Null
        $running = $shell.BeginInvoke()
        Wait-Until { (Test-Path -LiteralPath "$folder/reached") -or $running.IsCompleted } 'the review'
        $shell.Stop()
        $shell.Dispose()
        (Invoke-Qmp $oldMonitor query-migrate).status | Should -BeIn 'cancelled', 'failed'
        $newMonitor | Should -Not -Exist
        $counter = Get-Counter $oldMonitor
        Wait-Until { (Get-Counter $oldMonitor) -gt $counter } 'the guest counts on'
    }

    It 'names <Name> before anything is touched' -ForEach @(
        @{ Name = 'a locked pidfile'; More = '-pidfile', 'PIDFILE'; Message = '*process * has this file*' }
        @{ Name = 'a descriptor of the old process'; More = '-netdev', 'tap,id=n,fd=25'; Message = '*names a descriptor*' }
        @{ Name = 'an -incoming'; More = '-incoming', 'defer'; Message = '*leave it out*' }
    ) {
        [IO.File]::WriteAllText("$folder/pid", "$($old.Id)`n")
        $options.ArgumentList = $arguments + ($More -creplace 'PIDFILE', "$folder/pid")
        { & $example @options } | Should -Throw $Message
        (Invoke-Qmp $oldMonitor query-migrate).Count | Should -Be 0
    }

    It 'says what is wrong with the monitor <Socket>' -ForEach @(
        @{ Socket = '/nonexistent/monitor'; Message = '*unix:/nonexistent/monitor: there is no such socket*' }
        @{ Socket = '/var/lib/libvirt/qemu/domain-1-a/monitor.sock'; Message = '*is libvirt''s own connection*' }
    ) {
        $options.Monitor = $Socket
        { & $example @options } | Should -Throw $Message
    }

    It 'does nothing with -WhatIf' {
        $temporary = (Get-ChildItem ([IO.Path]::GetTempPath()) -Filter 'update-qemu-*').Count
        & $example @options -WhatIf
        (Get-ChildItem ([IO.Path]::GetTempPath()) -Filter 'update-qemu-*').Count | Should -Be $temporary
        (Invoke-Qmp $oldMonitor query-migrate).Count | Should -Be 0
        (Get-ChildItem /proc/self/fd).Count | Should -BeLessOrEqual ($descriptors + 1)
    }
}
