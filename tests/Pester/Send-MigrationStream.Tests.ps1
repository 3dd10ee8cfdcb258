BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/Handlers.ps1"
}

Describe 'Send-MigrationStream' {
    BeforeEach {
        $file = "$TestDrive/$([Guid]::NewGuid()).stream"
        $calls = [Collections.Generic.List[string]]::new()
    }

    AfterEach {
        Get-SaveVMHandler | Unregister-SaveVMHandler
    }

    It 'writes what script blocks of the session give, in order, and Receive-MigrationStream loads it' {
        $state = [byte[]](1..200)
        $loaded = @{}
        $null = Register-SaveVMHandler -IdStr acme/nvram -VersionId 2 -SavePrepare { $calls.Add('prepare') } -SaveState {
            param($Stream, $Context)
            $calls.Add("save $($Context.IdStr) $($Context.IsSource)")
            $Stream.WriteBytes($state)
        } -SaveCleanup { $calls.Add('cleanup') } -LoadSetup { $calls.Add('load setup') } -LoadState {
            param($Stream, $Context, $VersionId)
            $loaded.Version = $VersionId
            $loaded.State = $Stream.ReadBytes(200)
        } -LoadCleanup { $calls.Add('load cleanup') }
        $sent = Send-MigrationStream file:$file -StopDevice { $calls.Add('stop') } -ResumeDevice { $calls.Add('resume') }
        $sent.Devices | Should -Be 'acme/nvram'
        $sent.Bytes | Should -Be (Get-Item $file).Length
        $sent.Downtime.Total | Should -BeGreaterThan ([timespan]::Zero)
        $received = Receive-MigrationStream file:$file -MachineType none
        $received.Sections | Should -Be 1
        $loaded.Version | Should -Be 2
        $loaded.State | Should -Be $state
        $calls | Should -Be 'prepare', 'stop', 'save acme/nvram True', 'cleanup', 'load setup', 'load cleanup'
        (Get-MigrationStream $file).Sections.IdStr | Should -Be 'acme/nvram'
    }

    It 'warns when there is no device to send' {
        $sent = Send-MigrationStream -Uri "file:$file" -WarningVariable warnings -WarningAction SilentlyContinue
        $sent.Sections | Should -Be 0
        $warnings.Message | Should -BeLike 'No handler is registered*Register-SaveVMHandler*'
        ((Get-MigrationStream $file | Out-String) -replace '\s+', ' ') | Should -Not -MatchExactly 'RamBlocks|Pages'
    }

    It 'lets a device iterate while it runs, as the help shows, and gives an object for each round' {
        $queue = [Collections.Generic.Queue[byte[]]]::new()
        1..5 | ForEach-Object { $queue.Enqueue([byte[]]::new(4096)) }
        $loaded = @{ Bytes = 0 }
        $null = Register-SaveVMHandler -IdStr acme/log -SaveSetup { param($Stream) $Stream.WriteUInt32(0) } -SaveIterate {
            param($Stream)
            while ($queue.Count -and -not $Stream.BudgetExceeded) { $Stream.WriteUInt32(4096); $Stream.WriteBytes($queue.Dequeue()) }
            $Stream.WriteUInt32(0)
            $queue.Count -eq 0
        } -PendingEstimate { 4096 * $queue.Count } -SaveComplete {
            param($Stream)
            while ($queue.Count) { $Stream.WriteUInt32(4096); $Stream.WriteBytes($queue.Dequeue()) }
            $Stream.WriteUInt32(0)
        } -LoadState {
            param($Stream)
            while ($length = $Stream.ReadUInt32()) { $loaded.Bytes += $Stream.ReadBytes($length).Length }
        }
        $output = Send-MigrationStream file:$file -PassThru -DowntimeLimit 0
        $output[0] | Should -BeOfType MigrationOps.MigrationRound
        $output[-1] | Should -BeOfType MigrationOps.MigrationStreamTransfer
        $output[-1].Rounds | Should -Be ($output.Count - 1)
        $null = Receive-MigrationStream file:$file
        $loaded.Bytes | Should -Be (5 * 4096)
    }

    It 'brings .NET devices over a socket, as a job on the other side, with the target''s word' {
        $device = [PesterNvram]::new()
        $null = Register-SaveVMHandler acme/nvram $device
        $socket = New-SocketPath
        $job = Receive-MigrationStream unix:$socket -AsJob -SwitchoverAck
        Wait-Until { Test-Path $socket } 'the target listens'
        $sent = Send-MigrationStream unix:$socket -SwitchoverAck
        $sent.Confirmed | Should -BeTrue
        $sent.SwitchoverAcknowledged | Should -BeTrue
        $received = $job | Wait-Job | Receive-Job -Wait -AutoRemoveJob
        $received.Bytes | Should -Be $sent.Bytes
        $device.Cleanups | Should -Be 2
        $socket | Should -Not -Exist
    }

    It 'sends as a job that reports progress and rounds, and that Stop-Job cancels' {
        $device = [PesterBusy]::new()
        $null = Register-SaveVMHandler acme/busy $device
        $job = Send-MigrationStream file:$file -AsJob -PassThru
        Wait-Until { $job.Progress.Count -gt 0 -and $job.Output.Count -gt 1 } 'the job reports'
        $job.State | Should -Be Running
        $job.Progress[0].Activity | Should -BeLike "Sending a migration to file:*"
        $job.Output[0] | Should -BeOfType MigrationOps.MigrationRound
        $job.Output[0].TotalBytes | Should -BeGreaterThan 0
        $job | Stop-Job
        $job.State | Should -Be Stopped
        $job | Remove-Job
        $device.Pieces | Should -BeGreaterThan 0
        $device.Cleanups | Should -Be 1
        $file | Should -Not -Exist
        Get-Leftover | Should -Not -BeLike '*.part'
    }

    It 'protects both directions with the certificates of -TlsCredential' {
        $device = [PesterNvram]::new()
        $null = Register-SaveVMHandler acme/nvram $device
        $tls = New-TlsFolder
        $port = Get-FreePort
        $job = Receive-MigrationStream tcp:127.0.0.1:$port -AsJob -SwitchoverAck -TlsCredential $tls
        # A target that does not listen yet refuses the connection.
        Wait-Until { $script:sent = Send-MigrationStream tcp:127.0.0.1:$port -SwitchoverAck -TlsCredential $tls -ErrorAction SilentlyContinue; $script:sent -or $job.State -ne 'Running' } 'the migration'
        $script:sent.Confirmed | Should -BeTrue
        $script:sent.SwitchoverAcknowledged | Should -BeTrue
        $received = $job | Wait-Job | Receive-Job -Wait -AutoRemoveJob
        $received.Bytes | Should -Be $script:sent.Bytes
        (Get-Failure { Send-MigrationStream tcp:127.0.0.1:$port -TlsCredential $TestDrive }).FullyQualifiedErrorId | Should -BeLike 'WireTlsFailed,*'
    }

    It 'brings packets of .NET devices over multifd channels' {
        $device = [PesterPackets]::new()
        $null = Register-SaveVMHandler acme/fast $device
        $socket = New-SocketPath
        $job = Receive-MigrationStream unix:$socket -AsJob -MultifdChannels 3
        Wait-Until { Test-Path $socket } 'the target listens'
        $sent = Send-MigrationStream unix:$socket -MultifdChannels 3 -ReturnPath
        $received = $job | Wait-Job | Receive-Job -Wait -AutoRemoveJob
        $device.Taken | Should -Be 20
        $sent.MultifdChannels, $sent.ChannelPackets | Should -Be 3, 20
        $received.ChannelBytes | Should -Be $sent.ChannelBytes
        $socket | Should -Not -Exist
    }

    It 'brings packets of script blocks over multifd channels' {
        $shared = [hashtable]::Synchronized(@{ Taken = 0; Failed = $null })
        $socket = New-SocketPath
        $shell = New-Shell -Parameters @{ Shared = $shared; Socket = $socket } -Script @'
            $null = Register-SaveVMHandler acme/script -LoadState { param($Stream) $null = $Stream.ReadUInt16() } -LoadStateBuffer {
                param($Data, $Context)
                $p.Shared.Taken += $Data.Length
            }
            Receive-MigrationStream unix:$($p.Socket) -MultifdChannels 2
'@
        $running = $shell.BeginInvoke()
        Wait-Until { (Test-Path $socket) -or $running.IsCompleted } 'the target listens'
        $null = Register-SaveVMHandler acme/script -SaveSetup { param($Stream) $Stream.WriteUInt16(1) } -SaveComplete { param($Stream) $Stream.WriteUInt16(2) } -SaveCompleteThread {
            param($Send, $Context)
            1..10 | ForEach-Object { $Send.Invoke([byte[]]::new($_)) }
        }
        $sent = Send-MigrationStream unix:$socket -MultifdChannels 2 -ReturnPath
        $null = $shell.EndInvoke($running)
        $shell.Dispose()
        $sent.ChannelPackets | Should -Be 10
        $shared.Taken | Should -Be 55
    }

    It 'fails by name when a script block throws, resumes the device, cleans up and leaves no file' {
        $null = Register-SaveVMHandler acme/bad -SaveState { throw 'oh no' } -SaveCleanup { $calls.Add('cleanup') }
        $failure = Get-Failure { Send-MigrationStream file:$file -ResumeDevice { $calls.Add('resume') } }
        Assert-Failure $failure SaveVmHandlerFailed InvalidResult '*SaveState of section * (acme/bad) failed at byte*oh no*' 'acme/bad'
        $calls | Should -Be 'cleanup', 'resume'
        $file | Should -Not -Exist
        Get-Leftover | Should -Not -BeLike '*.part'
    }

    It 'says what a script block should have given back' {
        $null = Register-SaveVMHandler acme/bad -SaveSetup { } -SaveIterate { } -PendingEstimate { 5 } -SaveComplete { }
        $failure = Get-Failure { Send-MigrationStream file:$file }
        $failure.Exception.Message | Should -BeLike '*SaveLiveIterate*gave nothing back; it must give $true when*'
    }

    It 'calls the cleanup of script blocks when the pipeline is stopped' {
        $shared = [hashtable]::Synchronized(@{ Cleanups = 0; Started = $false; Resumed = $false })
        $shell = New-Shell -Parameters @{ Shared = $shared; File = $file } -Script @'
            $null = Register-SaveVMHandler acme/slow -SaveSetup { } -SaveIterate { param($Stream) $p.Shared.Started = $true; $Stream.WriteUInt32(1); $false } `
                -PendingEstimate { 1TB } -SaveComplete { } -SaveCleanup { $p.Shared.Cleanups++ }
            $null = Register-SaveVMHandler acme/other -SaveState { } -SaveCleanup { $p.Shared.Cleanups++ }
            Send-MigrationStream file:$($p.File) -MaxBandwidth 100
'@
        $running = $shell.BeginInvoke()
        Wait-Until { $shared.Started } 'the migration iterates'
        $clock = [Diagnostics.Stopwatch]::StartNew()
        $shell.Stop()
        $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
        $running.IsCompleted | Should -BeTrue
        $shared.Cleanups | Should -Be 2
        $file | Should -Not -Exist
        $shell.Dispose()
    }

    It 'ends a script block that runs when the pipeline is stopped, and calls the cleanups' {
        $shared = [hashtable]::Synchronized(@{ Cleanups = 0; Started = $false })
        $shell = New-Shell -Parameters @{ Shared = $shared; File = $file } -Script @'
            $null = Register-SaveVMHandler acme/stuck -SaveState { $p.Shared.Started = $true; while ($true) { Start-Sleep -Milliseconds 10 } } `
                -SaveCleanup { $p.Shared.Cleanups++ }
            Send-MigrationStream file:$($p.File) -StopDevice { } -ResumeDevice { $p.Shared.Cleanups += 10 }
'@
        $running = $shell.BeginInvoke()
        Wait-Until { $shared.Started } 'the script block runs'
        $clock = [Diagnostics.Stopwatch]::StartNew()
        $shell.Stop()
        $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
        $running.IsCompleted | Should -BeTrue
        # One cleanup, and the device resumes.
        $shared.Cleanups | Should -Be 11
        $file | Should -Not -Exist
        $shell.Dispose()
    }

    It 'runs the script blocks of two sessions at once, each with its own variables, functions and modules'' state' {
        $shared = [hashtable]::Synchronized(@{ One = ''; Two = '' })
        $shells = foreach ($name in 'One', 'Two') {
            New-Shell -Parameters @{ Shared = $shared; Name = $name; File = "$file.$name" } -Script @'
                $mine = $p.Name
                $count = @{ Left = 50 }
                function Get-Mine { "$mine" }
                $closed = & { $inner = "closed $mine"; { $p.Shared[$mine] += "|$inner|$(Get-Mine)" }.GetNewClosure() }
                $null = Register-SaveVMHandler acme/log -SaveSetup { } -SaveIterate { param($Stream) $p.Shared[$mine] += 'i'; $Stream.WriteUInt16($count.Left); $count.Left--; $count.Left -eq 0 } `
                    -PendingEstimate { $count.Left * 2 } -SaveComplete { } -SaveCleanup { $p.Shared[$mine] += "|$(Get-Mine)" }
                $null = Send-MigrationStream file:$($p.File) -DowntimeLimit 0 -StopDevice $closed
'@
        }
        $running = $shells | ForEach-Object { $_.BeginInvoke() }
        0..1 | ForEach-Object { $null = $shells[$_].EndInvoke($running[$_]); $shells[$_].Dispose() }
        foreach ($name in 'One', 'Two') {
            $shared[$name] | Should -BeLike "$('i' * 50)*|closed $name|*|$name"
        }
    }

    It 'names the script block that uses what only a remote session has' {
        $value = 5
        $null = Register-SaveVMHandler acme/using -SaveState { param($Stream) $Stream.WriteUInt32($using:value) }
        (Get-Failure { Send-MigrationStream file:$file }).Exception.Message | Should -BeLike '*SaveState of section * (acme/using) failed*using*'
    }

    It 'gives up with the reason when it cannot converge' {
        $null = Register-SaveVMHandler acme/busy -SaveSetup { } -SaveIterate { param($Stream) $Stream.WriteUInt32(1); $true } -PendingEstimate { 1TB } -SaveComplete { }
        Assert-Failure (Get-Failure { Send-MigrationStream file:$file -MaxRounds 3 }) SaveVmDidNotConverge InvalidOperation '*after 3 rounds: *bytes are pending*' "file:$file"
        (Get-Failure { Send-MigrationStream file:$file -MaxDuration 0.2 }).Exception.Message | Should -BeLike '*within 0.2 s*'
    }

    It 'does nothing with -WhatIf' {
        $null = Register-SaveVMHandler acme/nvram -SaveState { $calls.Add('save') }
        Send-MigrationStream file:$file -WhatIf
        Receive-MigrationStream file:$file -WhatIf
        $calls | Should -BeNullOrEmpty
        $file | Should -Not -Exist
    }

    It 'refuses <Name>' -ForEach @(
        @{ Name = 'a return path of a file'; Id = 'WireUnsupportedEndpoint'; Script = { Send-MigrationStream file:$file -ReturnPath } }
        @{ Name = 'multifd channels of a file'; Id = 'WireUnsupportedEndpoint'; Script = { Send-MigrationStream file:$file -MultifdChannels 2 } }
        @{ Name = 'script blocks in a job'; Id = 'SaveVmInvalidHandlers'; Script = { Send-MigrationStream file:$file -AsJob } }
        @{ Name = 'a negative downtime'; Id = 'SaveVmInvalidOption'; Script = { Send-MigrationStream file:$file -DowntimeLimit -1 } }
        @{ Name = 'a network without TLS'; Id = 'WirePlaintextRefused'; Script = { Send-MigrationStream tcp:192.0.2.1:4444 } }
    ) {
        $null = Register-SaveVMHandler acme/nvram -SaveState { }
        (Get-Failure $Script).FullyQualifiedErrorId | Should -BeLike "$Id,*"
        $file | Should -Not -Exist
    }
}
