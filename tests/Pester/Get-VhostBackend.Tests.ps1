BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Get-VhostBackend' {
    AfterEach {
        Stop-StartedBackend
    }

    It 'tells what a back-end says of itself' {
        $backend = Start-Backend
        $info = Get-VhostBackend -SocketPath $backend.SocketPath
        $info | Should -BeOfType MigrationOps.VhostBackendInfo
        $info.SocketPath | Should -Be $backend.SocketPath
        $info.DeviceState | Should -BeTrue
        $info.Queues | Should -Be 1
        $info.Features | Should -Be 'PROTOCOL_FEATURES', 'VERSION_1'
        $info.ProtocolFeatures | Should -Be 'MQ', 'REPLY_ACK', 'DEVICE_STATE'
        $info.PeerPid | Should -Be $PID
        $info.Peer | Should -BeLike "$($info.PeerName) (pid $PID, uid $($info.PeerUid))"
    }

    It 'says so when a back-end <Name>' -ForEach @(
        @{ Name = 'cannot transfer its state'; Parameters = @{ NoDeviceState = $true }; Expected = 'MQ', 'REPLY_ACK' }
        @{ Name = 'has no protocol features'; Parameters = @{ NoProtocolFeatures = $true }; Expected = $null }
    ) {
        $info = Get-VhostBackend (Start-Backend @Parameters).SocketPath
        $info.DeviceState | Should -BeFalse
        $info.ProtocolFeatures | Should -Be $Expected
    }

    It 'takes many from the pipeline, as text and as objects, and continues after one fails' {
        $first = Start-Backend
        $second = Start-Backend
        $info = $first.SocketPath, "$TestDrive/none.sock", $second | Get-VhostBackend -ErrorAction SilentlyContinue -ErrorVariable failures
        $info.SocketPath | Should -Be $first.SocketPath, $second.SocketPath
        $failures.TargetObject | Should -Be "$TestDrive/none.sock"
    }

    It 'takes the socket files of a directory' {
        $backend = Start-Backend
        (Get-Item -LiteralPath $backend.SocketPath | Get-VhostBackend).SocketPath | Should -Be $backend.SocketPath
    }

    It 'does not wait longer than -Timeout for <_>' -ForEach GetFeatures, GetProtocolFeatures, GetQueueNum {
        $backend = Start-Backend -Fault NoReply -FaultRequest $_
        $failure = Get-Failure { Get-VhostBackend $backend.SocketPath -Timeout 0.3 }
        $name = @{ GetFeatures = 'GET_FEATURES'; GetProtocolFeatures = 'GET_PROTOCOL_FEATURES'; GetQueueNum = 'GET_QUEUE_NUM' }[$_]
        Assert-Failure $failure VhostTimeout OperationTimeout "*$name was not answered*" $backend.SocketPath
    }

    It 'names the fault of <Fault> at GET_FEATURES: <Id>' -ForEach @(
        @{ Fault = 'Hangup'; Id = 'VhostDisconnected'; Category = 'ConnectionError' }
        @{ Fault = 'WrongRequestId'; Id = 'VhostUnexpectedReply'; Category = 'ProtocolError' }
        @{ Fault = 'WrongSize'; Id = 'VhostWrongReplySize'; Category = 'ProtocolError' }
        @{ Fault = 'WrongVersion'; Id = 'VhostWrongVersion'; Category = 'ProtocolError' }
    ) {
        $backend = Start-Backend -Fault $Fault -FaultRequest GetFeatures
        Assert-Failure (Get-Failure { Get-VhostBackend $backend.SocketPath }) $Id $Category '*GET_FEATURES*' $backend.SocketPath
    }

    It 'finds no socket' {
        Assert-Failure (Get-Failure { Get-VhostBackend "$TestDrive/none.sock" }) WireNotFound ObjectNotFound '*no such socket*' "$TestDrive/none.sock"
    }

    It 'is told of a path that is no socket' {
        Assert-Failure (Get-Failure { Get-VhostBackend $TestDrive }) WireNotASocket InvalidArgument '*not a socket*' "$TestDrive"
    }

    It 'is told of a path that no socket can have' {
        $failure = Get-Failure { Get-VhostBackend ('/tmp/' + 'x' * 200) }
        $failure.FullyQualifiedErrorId | Should -BeLike 'WireInvalidEndpoint,*'
        $failure.ErrorDetails.RecommendedAction | Should -Not -BeNullOrEmpty
    }

    It 'ends within a second on Ctrl-C' {
        $backend = Start-Backend -Fault NoReply -FaultRequest GetFeatures
        $shell = New-Shell 'Get-VhostBackend $p.Socket' @{ Socket = $backend.SocketPath }
        $null = $shell.BeginInvoke()
        Wait-Until { $backend.Connections -eq 1 } 'the connection'
        $clock = [Diagnostics.Stopwatch]::StartNew()
        $shell.Stop()
        $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
        $shell.Dispose()
    }

    It 'returns what survives JSON and CLIXML, and binds back by name' {
        $info = Get-VhostBackend (Start-Backend).SocketPath
        ($info | ConvertTo-Json | ConvertFrom-Json).ProtocolFeatures | Should -Be $info.ProtocolFeatures
        $info | Export-Clixml -LiteralPath "$TestDrive/info.xml"
        (Import-Clixml -LiteralPath "$TestDrive/info.xml" | Get-VhostBackend).Features | Should -Be $info.Features
    }

    It 'writes the conversation to -Verbose and -LogPath' {
        $records = Get-VhostBackend (Start-Backend).SocketPath -Verbose -LogPath "$TestDrive/log" 4>&1
        "$records" | Should -BeLike '*> GET_FEATURES*< GET_QUEUE_NUM*'
        (Get-Content -LiteralPath "$TestDrive/log" | ConvertFrom-Json).command | Select-Object -Unique | Should -Be Get-VhostBackend
    }
}
