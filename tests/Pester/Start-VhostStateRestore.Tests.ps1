BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Start-VhostStateRestore' {
    AfterEach {
        Stop-StartedBackend
        Get-ChildItem -LiteralPath $TestDrive -Force | Remove-Item -Recurse -Force
    }

    Context 'from a file' {
        BeforeEach {
            $saved = Start-VhostStateSave (Start-Backend -Size 3MB).SocketPath "$TestDrive/a.state"
            $target = Start-Backend -Size 3MB
        }

        It 'loads what was saved, and returns it' {
            $loaded = Start-VhostStateRestore -SocketPath $target.SocketPath -Path "$TestDrive/a.state"
            $loaded | Should -BeOfType MigrationOps.VhostStateTransfer
            $loaded.Direction | Should -Be Load
            $loaded.Bytes | Should -Be 3MB
            $loaded.Sha256 | Should -BeExactly $saved.Sha256
            $loaded.Checked | Should -BeTrue
            $loaded.SocketPath | Should -Be $target.SocketPath
            $loaded.Path | Should -Be "$TestDrive/a.state"
            $target.BytesLoaded | Should -Be 3MB
        }

        It 'takes file and SHA-256 from the result of a save' {
            ($saved | Start-VhostStateRestore -SocketPath $target.SocketPath).Sha256 | Should -BeExactly $saved.Sha256
        }

        It 'does not touch the back-end when the file is no longer the one that was saved' {
            $null = Start-VhostStateSave (Start-Backend -Size 2MB).SocketPath "$TestDrive/a.state"
            $failure = Get-Failure { $saved | Start-VhostStateRestore -SocketPath $target.SocketPath }
            Assert-Failure $failure StateFileDigestMismatch InvalidData "*expected $($saved.Sha256)*" "$TestDrive/a.state"
            $target.Connections | Should -Be 0
        }

        It 'takes file objects' {
            (Get-Item -LiteralPath "$TestDrive/a.state" | Start-VhostStateRestore $target.SocketPath).Bytes | Should -Be 3MB
        }

        It 'loads the same bytes into a back-end that saves them again' {
            Set-Content -LiteralPath "$TestDrive/into" -Value '' -NoNewline
            $keeper = Start-Backend -StatePath "$TestDrive/into"
            $null = Start-VhostStateRestore $keeper.SocketPath "$TestDrive/a.state"
            (Start-VhostStateSave $keeper.SocketPath "$TestDrive/b.state").Sha256 | Should -BeExactly $saved.Sha256
        }

        It 'uses the descriptor of a back-end that has its own' {
            (Start-VhostStateRestore (Start-Backend -Size 3MB -OwnDescriptor).SocketPath "$TestDrive/a.state").Bytes | Should -Be 3MB
        }

        It 'loads bare bytes with -Raw' {
            $state = [byte[]](1..200)
            [IO.File]::WriteAllBytes("$TestDrive/a.raw", $state)
            $backend = Start-Backend -State @()
            (Start-VhostStateRestore $backend.SocketPath "$TestDrive/a.raw" -Raw).Bytes | Should -Be 200
            $null = Start-VhostStateSave $backend.SocketPath "$TestDrive/b.raw" -Raw
            [IO.File]::ReadAllBytes("$TestDrive/b.raw") | Should -Be $state
        }

        It 'says what it would do with -WhatIf and touches nothing' {
            Start-VhostStateRestore $target.SocketPath "$TestDrive/a.state" -WhatIf | Should -BeNullOrEmpty
            $target.Connections | Should -Be 0
        }

        It 'continues with the next file after one failed' {
            $null = Start-VhostStateSave (Start-Backend -Size 3MB).SocketPath "$TestDrive/c.state"
            'no state' | Set-Content -LiteralPath "$TestDrive/b.state"
            $loaded = Get-ChildItem -Path "$TestDrive/*.state" | Start-VhostStateRestore $target.SocketPath -ErrorAction SilentlyContinue -ErrorVariable failures
            $loaded.Path | Should -Be "$TestDrive/a.state", "$TestDrive/c.state"
            $failures.TargetObject | Should -Be "$TestDrive/b.state"
        }

        It 'is told by <Name>: <Id>' -ForEach @(
            @{ Name = 'a refusal'; Parameters = @{ Fault = 'Refuse' }; Id = 'VhostTransferRefused'; Category = 'InvalidResult'; Message = '*refused to load*' }
            @{ Name = 'a stall'; Parameters = @{ Fault = 'Stall'; FaultByte = 1000 }; Id = 'VhostTransferStalled'; Category = 'OperationTimeout'; Message = '*stalls while loading*' }
            @{ Name = 'a closed connection'; Parameters = @{ Fault = 'Close'; FaultByte = 1000 }; Id = 'VhostDisconnected'; Category = 'ConnectionError'; Message = '*CHECK_DEVICE_STATE*' }
            @{ Name = 'a failed check'; Parameters = @{ Fault = 'FailCheck' }; Id = 'VhostCheckFailed'; Category = 'InvalidResult'; Message = '*CHECK_DEVICE_STATE gave 0x1*' }
            @{ Name = 'a failure in the middle'; Parameters = @{ Fault = 'FailAtByte'; FaultByte = 1000 }; Id = 'VhostCheckFailed'; Category = 'InvalidResult'; Message = '*CHECK_DEVICE_STATE gave 0x1*' }
            @{ Name = 'a back-end for another state'; Parameters = @{ Size = 4MB }; Id = 'VhostCheckFailed'; Category = 'InvalidResult'; Message = '*CHECK_DEVICE_STATE gave 0x1*' }
            @{ Name = 'a missing feature'; Parameters = @{ NoDeviceState = $true }; Id = 'VhostNoDeviceState'; Category = 'NotImplemented'; Message = '*without DEVICE_STATE*' }
            @{ Name = 'silence at the check'; Parameters = @{ Fault = 'NoReply'; FaultRequest = 'CheckDeviceState' }; Id = 'VhostTimeout'; Category = 'OperationTimeout'; Message = '*CHECK_DEVICE_STATE was not answered*' }
        ) {
            if (-not $Parameters.ContainsKey('Size')) {
                $Parameters.Size = 3MB
            }

            $backend = Start-Backend @Parameters
            $failure = Get-Failure { Start-VhostStateRestore $backend.SocketPath "$TestDrive/a.state" -Timeout 0.3 }
            Assert-Failure $failure $Id $Category $Message $backend.SocketPath
        }

        It 'refuses a file that is <Name>, and does not touch the back-end' -ForEach @(
            @{ Name = 'cut'; Id = 'StateFileTruncated'; Category = 'InvalidData'; Message = '*truncated at byte*'; Damage = { param($file) $file.SetLength($file.Length - 500KB) } }
            @{ Name = 'cut in its header'; Id = 'StateFileTruncated'; Category = 'InvalidData'; Message = '*header has 20 of 32 bytes*'; Damage = { param($file) $file.SetLength(20) } }
            @{ Name = 'longer than it was'; Id = 'StateFileTrailingBytes'; Category = 'InvalidData'; Message = '*has data behind the end*'; Damage = { param($file) $file.Position = $file.Length; $file.WriteByte(0) } }
            @{ Name = 'damaged'; Id = 'StateFileDamaged'; Category = 'InvalidData'; Message = '*SHA-256*'; Damage = { param($file) $file.Position = 100000; $byte = $file.ReadByte(); $file.Position = 100000; $file.WriteByte($byte -bxor 1) } }
            @{ Name = 'of another sort'; Id = 'StateFileNotAStateFile'; Category = 'InvalidData'; Message = '*is not a state file*'; Damage = { param($file) $file.WriteByte(0x7f) } }
            @{ Name = 'of another device'; Id = 'StateFileWrongKind'; Category = 'InvalidArgument'; Message = '*Vfio*'; Damage = { param($file) $file.Position = 11; $file.WriteByte(2) } }
            @{ Name = 'of a later version'; Id = 'StateFileUnsupportedVersion'; Category = 'NotImplemented'; Message = '*version 2*'; Damage = { param($file) $file.Position = 9; $file.WriteByte(2) } }
        ) {
            Remove-Item -LiteralPath "$TestDrive/a.state.json"
            $file = [IO.File]::Open("$TestDrive/a.state", 'Open', 'ReadWrite')
            & $Damage $file
            $file.Dispose()
            $failure = Get-Failure { Start-VhostStateRestore $target.SocketPath "$TestDrive/a.state" }
            Assert-Failure $failure $Id $Category $Message "$TestDrive/a.state"
            $target.Connections | Should -Be 0
        }

        It 'refuses a file with the manifest of another, and does not touch the back-end' {
            $null = Start-VhostStateSave (Start-Backend -Size 3MB).SocketPath "$TestDrive/b.state"
            Copy-Item -LiteralPath "$TestDrive/b.state.json" -Destination "$TestDrive/a.state.json"
            $failure = Get-Failure { Start-VhostStateRestore $target.SocketPath "$TestDrive/a.state" }
            Assert-Failure $failure StateFileManifestForeign InvalidData '*describes another state*' "$TestDrive/a.state"
            $target.Connections | Should -Be 0
        }

        It 'loads a file whose manifest stayed behind' {
            Remove-Item -LiteralPath "$TestDrive/a.state.json"
            (Start-VhostStateRestore $target.SocketPath "$TestDrive/a.state").Checked | Should -BeTrue
        }

        It 'finds no file' {
            $failure = Get-Failure { Start-VhostStateRestore $target.SocketPath "$TestDrive/none.state" }
            Assert-Failure $failure StateFileNotFound ObjectNotFound '*none.state*does not exist*' "$TestDrive/none.state"
        }

        It 'is given a directory' {
            $failure = Get-Failure { Start-VhostStateRestore $target.SocketPath $TestDrive }
            $failure.ErrorDetails.RecommendedAction | Should -Not -BeNullOrEmpty
            $failure.TargetObject | Should -Be "$TestDrive"
            $target.Connections | Should -Be 0
        }

        It 'finds no back-end' {
            $failure = Get-Failure { Start-VhostStateRestore "$TestDrive/none.sock" "$TestDrive/a.state" }
            Assert-Failure $failure WireNotFound ObjectNotFound '*there is no such socket*' "$TestDrive/none.sock"
        }

        It 'gives the result of a job to Receive-Job' {
            ($saved | Start-VhostStateRestore $target.SocketPath -AsJob | Wait-Job | Receive-Job -Wait -AutoRemoveJob).Sha256 | Should -BeExactly $saved.Sha256
        }

        It 'ends within a second on Ctrl-C' {
            $backend = Start-Backend -Size 3MB -Fault Stall -FaultByte 1000
            $shell = New-Shell 'Start-VhostStateRestore $p.Socket $p.Path' @{ Socket = $backend.SocketPath; Path = "$TestDrive/a.state" }
            $null = $shell.BeginInvoke()
            Wait-Until { $backend.BytesLoaded -eq 1000 } 'the stall'
            $clock = [Diagnostics.Stopwatch]::StartNew()
            $shell.Stop()
            $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
            $shell.Dispose()
        }

        It 'shows the conversation with -Verbose, and writes it to -LogPath' {
            $records = Start-VhostStateRestore $target.SocketPath "$TestDrive/a.state" -Verbose -LogPath "$TestDrive/log" 4>&1
            "$records" | Should -BeLike '*> SET_DEVICE_STATE_FD LOAD STOPPED + 1 fd*> CHECK_DEVICE_STATE*'
            (Get-Content -LiteralPath "$TestDrive/log" | ConvertFrom-Json).command | Select-Object -Unique | Should -Be Start-VhostStateRestore
        }
    }

    Context 'from another host' {
        It 'takes a state over <Scheme> with the same SHA-256 on both sides' -ForEach @{ Scheme = 'unix' }, @{ Scheme = 'tcp' } {
            $source = Start-Backend -Size 20MB
            $target = Start-Backend -Size 20MB
            $uri = $Scheme -eq 'unix' ? "unix:$(New-SocketPath)" : "tcp:127.0.0.1:$(Get-FreePort)"
            $receiver = Start-VhostStateRestore -SocketPath $target.SocketPath -Uri $uri -AsJob
            Wait-Until { $receiver.Verbose.Message -match 'listening on' } 'the receiver to listen'
            $sent = Start-VhostStateSave -SocketPath $source.SocketPath -Uri $uri
            $received = $receiver | Wait-Job | Receive-Job -Wait -AutoRemoveJob
            $sent.Bytes | Should -Be 20MB
            $received.Bytes | Should -Be 20MB
            $received.Sha256 | Should -BeExactly $sent.Sha256
            $received.Uri | Should -Be $uri
            $sent.Path | Should -BeNullOrEmpty
            $target.BytesLoaded | Should -Be 20MB
        }

        It 'tells the port that the system chose' {
            $target = Start-Backend
            $receiver = Start-VhostStateRestore -SocketPath $target.SocketPath -Uri tcp:127.0.0.1:0 -AsJob
            Wait-Until { $receiver.Verbose.Message -match 'listening on' } 'the receiver to listen'
            $uri = [regex]::Match($receiver.Verbose.Message -join "`n", 'listening on (tcp:127\.0\.0\.1:\d+)').Groups[1].Value
            (Start-VhostStateSave (Start-Backend).SocketPath -Uri $uri).Checked | Should -BeTrue
            ($receiver | Wait-Job | Receive-Job -Wait -AutoRemoveJob).Uri | Should -Be $uri
        }

        It 'tells the sender when the state could not be loaded' {
            $uri = "unix:$(New-SocketPath)"
            $receiver = Start-VhostStateRestore -SocketPath (Start-Backend -Fault FailCheck).SocketPath -Uri $uri -AsJob
            Wait-Until { $receiver.Verbose.Message -match 'listening on' } 'the receiver to listen'
            $source = Start-Backend
            $failure = Get-Failure { Start-VhostStateSave $source.SocketPath -Uri $uri }
            Assert-Failure $failure VhostNotConfirmed ConnectionError '*did not confirm*' $uri
            (Get-Failure { $receiver | Wait-Job | Receive-Job -Wait -AutoRemoveJob }).FullyQualifiedErrorId | Should -BeLike 'VhostCheckFailed*'
        }

        It 'loads nothing whole when the sender fails' {
            $target = Start-Backend -Size 4MB
            $uri = "unix:$(New-SocketPath)"
            $receiver = Start-VhostStateRestore -SocketPath $target.SocketPath -Uri $uri -AsJob
            Wait-Until { $receiver.Verbose.Message -match 'listening on' } 'the receiver to listen'
            $source = Start-Backend -Size 4MB -Fault FailCheck
            (Get-Failure { Start-VhostStateSave $source.SocketPath -Uri $uri }).FullyQualifiedErrorId | Should -BeLike 'VhostCheckFailed*'
            $null = $receiver | Wait-Job
            $receiver.State | Should -Be Failed
            (Get-Failure { $receiver | Receive-Job -ErrorAction Stop -WarningAction SilentlyContinue }).FullyQualifiedErrorId | Should -BeLike 'StateFileTruncated*'
            $receiver.Warning.Message | Should -BeLike '*got part of a state*start it anew*'
            $receiver | Remove-Job
        }

        It 'stops waiting within a second on Stop-Job, and removes its socket' {
            $path = New-SocketPath
            $receiver = Start-VhostStateRestore -SocketPath (Start-Backend).SocketPath -Uri "unix:$path" -AsJob
            Wait-Until { $receiver.Verbose.Message -match 'listening on' } 'the receiver to listen'
            $clock = [Diagnostics.Stopwatch]::StartNew()
            $receiver | Stop-Job -PassThru | Remove-Job
            $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
            $path | Should -Not -Exist
        }

        It 'waits for a sender as long as -Timeout says' {
            $path = New-SocketPath
            $target = Start-Backend
            $failure = Get-Failure { Start-VhostStateRestore -SocketPath $target.SocketPath -Uri "unix:$path" -Timeout 0.3 }
            $failure.FullyQualifiedErrorId | Should -BeLike 'WireTimeout,*'
            $failure.Exception.Message | Should -BeLike "*a sender on unix:$path*"
            $path | Should -Not -Exist
        }

        It 'does not listen on a network in the clear' {
            $target = Start-Backend
            $failure = Get-Failure { Start-VhostStateRestore -SocketPath $target.SocketPath -Uri tcp:0.0.0.0:0 }
            Assert-Failure $failure WirePlaintextRefused SecurityError '*in the clear*' 'tcp:0.0.0.0:0'
            $target.Connections | Should -Be 0
        }

        It 'wants the certificates that -TlsCredential names' {
            $target = Start-Backend
            $failure = Get-Failure { Start-VhostStateRestore -SocketPath $target.SocketPath -Uri tcp:127.0.0.1:0 -TlsCredential $TestDrive }
            $failure.FullyQualifiedErrorId | Should -BeLike 'WireTlsFailed,*'
            $failure.ErrorDetails.RecommendedAction | Should -Not -BeNullOrEmpty
        }
    }
}
