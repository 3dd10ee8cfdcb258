BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Start-VhostStateSave' {
    AfterEach {
        Stop-StartedBackend
        Get-ChildItem -LiteralPath $TestDrive -Force | Remove-Item -Recurse -Force
    }

    Context 'to a file' {
        It 'writes the state and its manifest, and returns what was moved' {
            $backend = Start-Backend -Size 3MB
            $saved = Start-VhostStateSave -SocketPath $backend.SocketPath -Path "$TestDrive/a.state"
            $saved | Should -BeOfType MigrationOps.VhostStateTransfer
            $saved.Direction | Should -Be Save
            $saved.Bytes | Should -Be 3MB
            $saved.Checked | Should -BeTrue
            $saved.SocketPath | Should -Be $backend.SocketPath
            $saved.Path | Should -Be "$TestDrive/a.state"
            $saved.Device | Should -BeLike "*(pid $PID, uid *)"
            $saved.Duration | Should -BeGreaterThan ([TimeSpan]::Zero)
            $saved.Throughput | Should -BeGreaterThan 0
            $manifest = Get-Content -LiteralPath "$TestDrive/a.state.json" -Raw | ConvertFrom-Json
            $manifest.rawBytes | Should -Be 3MB
            $manifest.sha256 | Should -BeExactly $saved.Sha256
            $manifest.protocolFeatures | Should -Contain DEVICE_STATE
            $backend.BytesSaved | Should -Be 3MB
            Get-Leftover | Should -Be 'a.state', 'a.state.json'
        }

        It 'computes the SHA-256 of the raw state' {
            $state = [byte[]](1..200)
            $saved = Start-VhostStateSave (Start-Backend -State $state).SocketPath "$TestDrive/a.state"
            $saved.Sha256 | Should -BeExactly ([Convert]::ToHexString([Security.Cryptography.SHA256]::HashData($state)).ToLowerInvariant())
        }

        It 'writes exactly the bare bytes with -Raw' {
            $state = [byte[]](1..200)
            $null = Start-VhostStateSave (Start-Backend -State $state).SocketPath "$TestDrive/a.raw" -Raw
            [IO.File]::ReadAllBytes("$TestDrive/a.raw") | Should -Be $state
        }

        It 'saves an empty state' {
            (Start-VhostStateSave (Start-Backend -State @()).SocketPath "$TestDrive/a.state").Bytes | Should -Be 0
            Test-DeviceState "$TestDrive/a.state" -Quiet | Should -BeTrue
        }

        It 'leaves the SHA-256 out with -NoHash' {
            $saved = Start-VhostStateSave (Start-Backend).SocketPath "$TestDrive/a.state" -NoHash
            $saved.Sha256 | Should -BeNullOrEmpty
            Test-DeviceState "$TestDrive/a.state" -Quiet | Should -BeTrue
        }

        It 'uses the descriptor of a back-end that has its own' {
            (Start-VhostStateSave (Start-Backend -OwnDescriptor -Size 2MB).SocketPath "$TestDrive/a.state").Bytes | Should -Be 2MB
        }

        It 'takes paths relative to the current location' {
            $backend = Start-Backend
            Push-Location -LiteralPath $TestDrive
            try {
                $saved = Start-VhostStateSave -SocketPath (Split-Path $backend.SocketPath -Leaf) -Path ./a.state
            }
            finally {
                Pop-Location
            }

            $saved.Path | Should -Be "$TestDrive/a.state"
            "$TestDrive/a.state" | Should -Exist
        }

        It 'saves the back-end that Get-VhostBackend describes' {
            (Get-VhostBackend (Start-Backend).SocketPath | Start-VhostStateSave -Path "$TestDrive/a.state").Bytes | Should -Be 1MB
        }

        It 'replaces a previous file' {
            'old' | Set-Content -LiteralPath "$TestDrive/a.state"
            $null = Start-VhostStateSave (Start-Backend).SocketPath "$TestDrive/a.state"
            Test-DeviceState "$TestDrive/a.state" -Quiet | Should -BeTrue
        }

        It 'says what it would do with -WhatIf and touches nothing' {
            $backend = Start-Backend
            Start-VhostStateSave $backend.SocketPath "$TestDrive/a.state" -WhatIf | Should -BeNullOrEmpty
            Start-VhostStateSave $backend.SocketPath "$TestDrive/a.state" -WhatIf -AsJob | Should -BeNullOrEmpty
            $backend.Connections | Should -Be 0
            Get-Leftover | Should -BeNullOrEmpty
        }

        It 'returns a result that survives JSON and CLIXML' {
            $saved = Start-VhostStateSave (Start-Backend).SocketPath "$TestDrive/a.state"
            $json = $saved | ConvertTo-Json | ConvertFrom-Json
            $saved | Export-Clixml -LiteralPath "$TestDrive/a.xml"
            $clixml = Import-Clixml -LiteralPath "$TestDrive/a.xml"
            foreach ($name in 'Device', 'SocketPath', 'Path', 'Bytes', 'Chunks', 'Sha256', 'Checked', 'Throughput') {
                $json.$name | Should -Be $saved.$name
                $clixml.$name | Should -Be $saved.$name
            }

            $clixml.Duration | Should -Be $saved.Duration
            "$($clixml.StartedAt)" | Should -Be "$($saved.StartedAt)"
            $clixml.Direction.ToString() | Should -Be Save
        }

        It 'continues with the next back-end after one failed' {
            $backends = (Start-Backend), (Start-Backend -Fault Refuse), (Start-Backend)
            $number = 0
            $plan = $backends | ForEach-Object { [pscustomobject]@{ SocketPath = $_.SocketPath; Path = "$TestDrive/$((++$number)).state" } }
            $saved = $plan | Start-VhostStateSave -ErrorAction SilentlyContinue -ErrorVariable failures
            $saved.Path | Should -Be "$TestDrive/1.state", "$TestDrive/3.state"
            $failures | Should -HaveCount 1
            $failures[0].TargetObject | Should -Be $backends[1].SocketPath
            Get-Leftover | Should -Be '1.state', '1.state.json', '3.state', '3.state.json'
        }
    }

    Context 'when it fails' {
        It '<Name>: <Id>, <Category>' -ForEach @(
            @{ Name = 'refused'; Parameters = @{ Fault = 'Refuse' }; Id = 'VhostTransferRefused'; Category = 'InvalidResult'; Message = '*refused to save*SET_DEVICE_STATE_FD*0x101*' }
            @{ Name = 'stalls'; Parameters = @{ Fault = 'Stall'; FaultByte = 100000 }; Id = 'VhostTransferStalled'; Category = 'OperationTimeout'; Message = '*stalls while saving*' }
            @{ Name = 'closes in the middle'; Parameters = @{ Fault = 'Close'; FaultByte = 100000 }; Id = 'VhostDisconnected'; Category = 'ConnectionError'; Message = '*CHECK_DEVICE_STATE*' }
            @{ Name = 'fails in the middle'; Parameters = @{ Fault = 'FailAtByte'; FaultByte = 100000 }; Id = 'VhostCheckFailed'; Category = 'InvalidResult'; Message = '*CHECK_DEVICE_STATE gave 0x1*' }
            @{ Name = 'fails at the check'; Parameters = @{ Fault = 'FailCheck' }; Id = 'VhostCheckFailed'; Category = 'InvalidResult'; Message = '*CHECK_DEVICE_STATE gave 0x1*' }
            @{ Name = 'announces a descriptor and sends none'; Parameters = @{ Fault = 'AnnounceMissingDescriptor' }; Id = 'VhostReplyDescriptorMismatch'; Category = 'ProtocolError'; Message = '*announces a descriptor, and 0 came*' }
            @{ Name = 'sends a descriptor unannounced'; Parameters = @{ Fault = 'SendUnannouncedDescriptor' }; Id = 'VhostReplyDescriptorMismatch'; Category = 'ProtocolError'; Message = '*announces no descriptor, and 1 came*' }
            @{ Name = 'answers with another id'; Parameters = @{ Fault = 'WrongRequestId' }; Id = 'VhostUnexpectedReply'; Category = 'ProtocolError'; Message = '*the reply to SET_DEVICE_STATE_FD is RESET_DEVICE*' }
            @{ Name = 'answers with another size'; Parameters = @{ Fault = 'WrongSize' }; Id = 'VhostWrongReplySize'; Category = 'ProtocolError'; Message = '*4 bytes*expected 8 bytes*' }
            @{ Name = 'answers with another version'; Parameters = @{ Fault = 'WrongVersion' }; Id = 'VhostWrongVersion'; Category = 'ProtocolError'; Message = '*SET_DEVICE_STATE_FD*' }
            @{ Name = 'hangs up'; Parameters = @{ Fault = 'Hangup' }; Id = 'VhostDisconnected'; Category = 'ConnectionError'; Message = '*closed the connection instead of answering SET_DEVICE_STATE_FD*' }
            @{ Name = 'no device state'; Parameters = @{ NoDeviceState = $true }; Id = 'VhostNoDeviceState'; Category = 'NotImplemented'; Message = '*MQ, REPLY_ACK*without DEVICE_STATE*' }
            @{ Name = 'no protocol features'; Parameters = @{ NoProtocolFeatures = $true }; Id = 'VhostNoProtocolFeatures'; Category = 'NotImplemented'; Message = '*no protocol features*VERSION_1*' }
            @{ Name = 'silent at GET_FEATURES'; Parameters = @{ Fault = 'NoReply'; FaultRequest = 'GetFeatures' }; Id = 'VhostTimeout'; Category = 'OperationTimeout'; Message = '*GET_FEATURES was not answered*' }
            @{ Name = 'silent at SET_OWNER'; Parameters = @{ Fault = 'NoReply'; FaultRequest = 'SetOwner' }; Id = 'VhostTimeout'; Category = 'OperationTimeout'; Message = '*GET_PROTOCOL_FEATURES was not answered*' }
            @{ Name = 'silent at GET_PROTOCOL_FEATURES'; Parameters = @{ Fault = 'NoReply'; FaultRequest = 'GetProtocolFeatures' }; Id = 'VhostTimeout'; Category = 'OperationTimeout'; Message = '*GET_PROTOCOL_FEATURES was not answered*' }
            @{ Name = 'silent at SET_PROTOCOL_FEATURES'; Parameters = @{ Fault = 'NoReply'; FaultRequest = 'SetProtocolFeatures' }; Id = 'VhostTimeout'; Category = 'OperationTimeout'; Message = '*SET_DEVICE_STATE_FD was not answered*' }
            @{ Name = 'silent at SET_DEVICE_STATE_FD'; Parameters = @{ Fault = 'NoReply'; FaultRequest = 'SetDeviceStateFd' }; Id = 'VhostTimeout'; Category = 'OperationTimeout'; Message = '*SET_DEVICE_STATE_FD was not answered*' }
            @{ Name = 'silent at CHECK_DEVICE_STATE'; Parameters = @{ Fault = 'NoReply'; FaultRequest = 'CheckDeviceState' }; Id = 'VhostTimeout'; Category = 'OperationTimeout'; Message = '*CHECK_DEVICE_STATE was not answered*' }
        ) {
            'previous' | Set-Content -LiteralPath "$TestDrive/a.state"
            $backend = Start-Backend -Size 4MB @Parameters
            $clock = [Diagnostics.Stopwatch]::StartNew()
            $failure = Get-Failure { Start-VhostStateSave $backend.SocketPath "$TestDrive/a.state" -Timeout 0.3 }
            $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
            Assert-Failure $failure $Id $Category $Message $backend.SocketPath
            $failure.Exception.Message | Should -BeLike "*pid $PID*'$($backend.SocketPath)'*"
            $failure.Exception.Transcript | Should -Not -BeNullOrEmpty
            Get-Leftover | Should -Be 'a.state'
            Get-Content -LiteralPath "$TestDrive/a.state" | Should -Be 'previous'
        }

        It 'finds no socket' {
            $failure = Get-Failure { Start-VhostStateSave "$TestDrive/none.sock" "$TestDrive/a.state" }
            Assert-Failure $failure WireNotFound ObjectNotFound "*none.sock: there is no such socket*" "$TestDrive/none.sock"
            Get-Leftover | Should -BeNullOrEmpty
        }

        It 'is told of a path that is no socket' {
            'text' | Set-Content -LiteralPath "$TestDrive/file"
            $failure = Get-Failure { Start-VhostStateSave "$TestDrive/file" "$TestDrive/a.state" }
            Assert-Failure $failure WireNotASocket InvalidArgument '*it is not a socket*' "$TestDrive/file"
        }

        It 'finds a socket file without a listener' {
            $path = New-SocketPath
            $socket = [Net.Sockets.Socket]::new('Unix', 'Stream', 'Unspecified')
            $socket.Bind([Net.Sockets.UnixDomainSocketEndPoint]::new($path))
            try {
                Assert-Failure (Get-Failure { Start-VhostStateSave $path "$TestDrive/a.state" }) WireConnectFailed ConnectionError '*Connection refused*' $path
            }
            finally {
                $socket.Dispose()
            }
        }

        It 'is given a directory as destination' {
            $backend = Start-Backend
            $failure = Get-Failure { Start-VhostStateSave $backend.SocketPath $TestDrive }
            Assert-Failure $failure WireInputOutput WriteError '*is a directory*' "$TestDrive"
            $backend.Connections | Should -Be 0
        }

        It 'is given a destination in a directory that does not exist' {
            $backend = Start-Backend
            $failure = Get-Failure { Start-VhostStateSave $backend.SocketPath "$TestDrive/none/a.state" }
            Assert-Failure $failure WireNotFound ObjectNotFound '*none/a.state*cannot be created*' "$TestDrive/none/a.state"
            $backend.Connections | Should -Be 0
        }

        It 'meets the file size limit of the process' {
            $backend = Start-Backend -Size 4MB
            $script = @"
                Import-Module '$((Get-Module MigrationOps).Path)'
                prlimit --fsize=1048576 --pid `$PID
                try { Start-VhostStateSave '$($backend.SocketPath)' '$TestDrive/a.state' -ErrorAction Stop } catch { `$_.FullyQualifiedErrorId }
"@
            & $pwsh.Program $pwsh.Arguments -NoProfile -NonInteractive -Command $script | Should -BeLike 'WireNoSpace,*'
            Get-Leftover | Should -BeNullOrEmpty
        }

        It 'meets a full disk' {
            $backend = Start-Backend -Size 4MB
            # RLIMIT and mounts are not ours to change; /dev/full says ENOSPC as a disk does.
            $full = [IO.File]::OpenWrite('/dev/full')
            try {
                $uri = "fd:$($full.SafeFileHandle.DangerousGetHandle())"
                $failure = Get-Failure { Start-VhostStateSave $backend.SocketPath -Uri $uri }
            }
            finally {
                $full.Dispose()
            }

            $failure.FullyQualifiedErrorId | Should -BeLike 'WireNoSpace,*'
            $failure.ErrorDetails.RecommendedAction | Should -Not -BeNullOrEmpty
        }

        It 'does not understand the URI <_>' -ForEach 'nonsense', 'tcp:host', 'tcp:host:port', 'tcp:[::1:4444', 'unix:', 'file:', 'fd:x' {
            $failure = Get-Failure { Start-VhostStateSave (New-SocketPath) -Uri $_ }
            Assert-Failure $failure WireInvalidEndpoint InvalidArgument "*'$([WildcardPattern]::Escape($_))' is not an endpoint*" $_
        }

        It 'has no transport for <_>' -ForEach 'exec:cat', 'rdma:host:1', 'vsock:2:3' {
            (Get-Failure { Start-VhostStateSave (New-SocketPath) -Uri $_ }).FullyQualifiedErrorId | Should -BeLike 'WireUnsupportedEndpoint,*'
        }

        It 'does not send over a network in the clear' {
            $failure = Get-Failure { Start-VhostStateSave (New-SocketPath) -Uri tcp:192.0.2.1:4444 }
            Assert-Failure $failure WirePlaintextRefused SecurityError '*in the clear*' 'tcp:192.0.2.1:4444'
        }
    }

    Context '-Timeout' {
        It 'takes <Value> as <Seconds> s' -ForEach @(
            @{ Value = 0.2; Seconds = 0.2 }
            @{ Value = '0.2'; Seconds = 0.2 }
            @{ Value = [TimeSpan]::FromSeconds(0.2); Seconds = 0.2 }
            @{ Value = '00:00:00.2'; Seconds = 0.2 }
            @{ Value = 1; Seconds = 1 }
        ) {
            $backend = Start-Backend -Fault NoReply -FaultRequest GetFeatures
            $clock = [Diagnostics.Stopwatch]::StartNew()
            $null = Get-Failure { Start-VhostStateSave $backend.SocketPath "$TestDrive/a.state" -Timeout $Value }
            $clock.Elapsed.TotalSeconds | Should -BeGreaterThan ($Seconds * 0.95)
            $clock.Elapsed.TotalSeconds | Should -BeLessThan ($Seconds + 10)
        }

        It 'refuses <_>' -ForEach 0, -3, 'soon' {
            $failure = Get-Failure { Start-VhostStateSave (New-SocketPath) "$TestDrive/a.state" -Timeout $_ }
            $failure.CategoryInfo.Category | Should -BeIn InvalidArgument, InvalidData
        }
    }

    Context 'what it tells' {
        It 'shows the conversation with -Verbose, in order' {
            $records = Start-VhostStateSave (Start-Backend).SocketPath "$TestDrive/a.state" -Verbose 4>&1 |
                Where-Object { $_ -is [Management.Automation.VerboseRecord] } | ForEach-Object -MemberName Message
            $messages = [regex]::Matches($records -join "`n", '[<>] [A-Z_]+').Value
            $messages | Should -Be '> GET_FEATURES', '< GET_FEATURES', '> SET_OWNER', '> GET_PROTOCOL_FEATURES', '< GET_PROTOCOL_FEATURES',
                '> SET_PROTOCOL_FEATURES', '> SET_DEVICE_STATE_FD', '< SET_DEVICE_STATE_FD', '> CHECK_DEVICE_STATE', '< CHECK_DEVICE_STATE'
        }

        It 'appends JSON lines to the file of -LogPath' {
            $socket = (Start-Backend).SocketPath
            1..2 | ForEach-Object { $null = Start-VhostStateSave $socket "$TestDrive/a.state" -LogPath "$TestDrive/log.jsonl" }
            $lines = Get-Content -LiteralPath "$TestDrive/log.jsonl" | ConvertFrom-Json
            $lines.command | Select-Object -Unique | Should -Be 'Start-VhostStateSave'
            $lines | ForEach-Object { $_.time | Should -BeOfType DateTime; $_.level | Should -Be Information }
            @($lines.message -like '*> CHECK_DEVICE_STATE') | Should -HaveCount 2
        }

        It 'writes its failure into the file of -LogPath' {
            $backend = Start-Backend -Fault Refuse
            $null = Get-Failure { Start-VhostStateSave $backend.SocketPath "$TestDrive/a.state" -LogPath "$TestDrive/log.jsonl" }
            $last = Get-Content -LiteralPath "$TestDrive/log.jsonl" | Select-Object -Last 1 | ConvertFrom-Json
            $last.level | Should -Be Error
            $last.message | Should -BeLike '*refused to save*'
        }

        It 'cannot use a log in a directory that does not exist' {
            $failure = Get-Failure { Start-VhostStateSave (New-SocketPath) "$TestDrive/a.state" -LogPath "$TestDrive/none/log" }
            Assert-Failure $failure LogPathUnusable OpenError '*none/log*' "$TestDrive/none/log"
        }

        It 'continues without its log when that cannot be written, and says so once' {
            $socket = (Start-Backend).SocketPath
            $saved = Start-VhostStateSave $socket "$TestDrive/a.state" -LogPath /dev/full -WarningVariable warnings -WarningAction SilentlyContinue
            $saved.Checked | Should -BeTrue
            $warnings | Should -HaveCount 1
            $warnings[0].Message | Should -BeLike 'The log ends here*No space left*/dev/full*'
            $job = Start-VhostStateSave $socket "$TestDrive/a.state" -LogPath /dev/full -AsJob
            $null = $job | Wait-Job
            $job.State | Should -Be Completed
            $job.Output[0].Checked | Should -BeTrue
            $job.Warning | Should -HaveCount 1
            $job | Remove-Job
        }

        It 'shows progress at most five times a second, and takes it away at the end' {
            $backend = Start-Backend -Size 600MB
            $shell = New-Shell 'Start-VhostStateSave $p.Socket $p.Path' @{ Socket = $backend.SocketPath; Path = "$TestDrive/a.state" }
            try {
                $saved = $shell.Invoke()[0]
                $shown = @($shell.Streams.Progress | Where-Object -Property RecordType -EQ -Value Processing)
                $shown.Count | Should -BeGreaterThan 0
                $shown.Count | Should -BeLessOrEqual (5 * $saved.Duration.TotalSeconds + 2)
                $shown[-1].StatusDescription | Should -Match '^[0-9.]+ [KMG]?i?B, [0-9.]+ [KMG]?i?B/s$'
                $shell.Streams.Progress[-1].RecordType | Should -Be Completed
            }
            finally {
                $shell.Dispose()
            }
        }
    }

    Context '-AsJob' {
        It 'gives the result to Receive-Job' {
            $job = Start-VhostStateSave (Start-Backend).SocketPath "$TestDrive/a.state" -AsJob
            $job | Should -BeOfType System.Management.Automation.Job
            (Get-Job -Id $job.Id).InstanceId | Should -Be $job.InstanceId
            $saved = $job | Receive-Job -Wait
            $saved.Bytes | Should -Be 1MB
            $job.State | Should -Be Completed
            $job | Remove-Job
        }

        It 'runs several at once' {
            $jobs = 1..4 | ForEach-Object { Start-VhostStateSave (Start-Backend).SocketPath "$TestDrive/$_.state" -AsJob }
            ($jobs | Wait-Job | Receive-Job -Wait -AutoRemoveJob).Path | Sort-Object | Should -Be (1..4 | ForEach-Object { "$TestDrive/$_.state" })
        }

        It 'ends as failed, with the error' {
            $job = Start-VhostStateSave (Start-Backend -Fault Refuse).SocketPath "$TestDrive/a.state" -AsJob
            $null = $job | Wait-Job
            $job.State | Should -Be Failed
            (Get-Failure { $job | Receive-Job -ErrorAction Stop }).FullyQualifiedErrorId | Should -BeLike 'VhostTransferRefused*'
            $job | Remove-Job
            Get-Leftover | Should -BeNullOrEmpty
        }

        It 'stops within a second and leaves nothing' {
            $backend = Start-Backend -Size 4MB -Fault Stall -FaultByte 1000
            $job = Start-VhostStateSave $backend.SocketPath "$TestDrive/a.state" -AsJob
            Wait-Until { $backend.BytesSaved -eq 1000 } 'the stall'
            $clock = [Diagnostics.Stopwatch]::StartNew()
            $job | Stop-Job
            $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
            $job.State | Should -Be Stopped
            $job | Remove-Job
            Get-Leftover | Should -BeNullOrEmpty
        }

        It 'writes the log of -LogPath to its end' {
            Start-VhostStateSave (Start-Backend).SocketPath "$TestDrive/a.state" -AsJob -LogPath "$TestDrive/log.jsonl" | Wait-Job | Receive-Job -Wait -AutoRemoveJob
            (Get-Content -LiteralPath "$TestDrive/log.jsonl" | Select-Object -Last 1 | ConvertFrom-Json).message | Should -BeLike '*< CHECK_DEVICE_STATE 0x0 success'
        }

        It 'writes one log for all jobs of a pipeline, and loses no line of any' {
            $plan = 1..4 | ForEach-Object { [pscustomobject]@{ SocketPath = (Start-Backend).SocketPath; Path = "$TestDrive/$_.state" } }
            $null = $plan | Start-VhostStateSave -AsJob -LogPath "$TestDrive/log.jsonl" | Wait-Job | Receive-Job -Wait -AutoRemoveJob
            $lines = Get-Content -LiteralPath "$TestDrive/log.jsonl" | ConvertFrom-Json
            @($lines.message -like '*- connected to *') | Should -HaveCount 4
            @($lines.message -like '*< CHECK_DEVICE_STATE 0x0 success') | Should -HaveCount 4
        }

        It 'keeps the conversation for Receive-Job -Verbose' {
            $job = Start-VhostStateSave (Start-Backend).SocketPath "$TestDrive/a.state" -AsJob
            $null = $job | Wait-Job
            ($job.Verbose.Message -join "`n") | Should -Match '> CHECK_DEVICE_STATE'
            $job | Remove-Job
        }
    }

    Context 'Ctrl-C' {
        It 'ends the pipeline within a second and leaves nothing' {
            $backend = Start-Backend -Size 4MB -Fault Stall -FaultByte 1000
            $shell = New-Shell 'Start-VhostStateSave $p.Socket $p.Path' @{ Socket = $backend.SocketPath; Path = "$TestDrive/a.state" }
            $running = $shell.BeginInvoke()
            Wait-Until { $backend.BytesSaved -eq 1000 } 'the stall'
            $clock = [Diagnostics.Stopwatch]::StartNew()
            $shell.Stop()
            $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
            $running.IsCompleted | Should -BeTrue
            $shell.InvocationStateInfo.State | Should -Be Stopped
            $shell.Dispose()
            Get-Leftover | Should -BeNullOrEmpty
        }

        It 'as a signal ends a pwsh, and leaves nothing' {
            $backend = Start-Backend -Size 4MB -Fault Stall -FaultByte 1000
            $start = [Diagnostics.ProcessStartInfo]::new('env')
            # Whoever runs the suite in the background of a script has made it ignore SIGINT.
            @('--default-signal=INT', $pwsh.Program) + $pwsh.Arguments + '-NoProfile', '-NonInteractive', '-Command', "Import-Module '$manifestPath'; Start-VhostStateSave '$($backend.SocketPath)' '$TestDrive/a.state'" |
                ForEach-Object { $start.ArgumentList.Add($_) }
            $start.RedirectStandardOutput = $start.RedirectStandardError = $start.RedirectStandardInput = $true
            $child = [Diagnostics.Process]::Start($start)
            try {
                Wait-Until { $backend.BytesSaved -eq 1000 } 'the stall'
                $clock = [Diagnostics.Stopwatch]::StartNew()
                & sh -c "kill -INT $($child.Id)"
                Wait-Until { -not (Get-Leftover) } 'the temporary file to go' 1
                $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
                $child.WaitForExit(5000) | Should -BeTrue
            }
            finally {
                $child.Kill()
                $child.Dispose()
            }
        }

        It 'of a kind: Select-Object -First ends the work' {
            $slow = Start-Backend -Size 4MB -Fault Stall -FaultByte 1000
            $plan = (Start-Backend), $slow | ForEach-Object { [pscustomobject]@{ SocketPath = $_.SocketPath; Path = "$TestDrive/$($_.Fault).state" } }
            ($plan | Start-VhostStateSave | Select-Object -First 1).Path | Should -Be "$TestDrive/None.state"
            $slow.Connections | Should -Be 0
        }
    }
}
