BeforeAll {
    . "$PSScriptRoot/Support.ps1"

    $capture = "$repository/tests/MigrationOps.Engine.Tests/Vectors/vfio/10-big2dev-precopy-3ch-switchover-ack"

    # A real source's bytes, connection by connection, as it sent them.
    function Send-Capture {
        param([string] $Socket, [string] $Folder = $capture, [long] $Cut = [long]::MaxValue, [switch] $MayFail)
        $open = foreach ($file in Get-ChildItem -Path "$Folder/conn*.c2s.bin" | Sort-Object -Property Name) {
            $connection = [Net.Sockets.Socket]::new('Unix', 'Stream', 'Unspecified')
            $connection.Connect([Net.Sockets.UnixDomainSocketEndPoint]::new($Socket))
            $bytes = [IO.File]::ReadAllBytes($file.FullName)
            if ($bytes.Length -gt $Cut) { $bytes = $bytes[0..($Cut - 1)] }
            [pscustomobject]@{ Connection = $connection; Bytes = $bytes; Sent = $null }
        }
        # After all have connected: a receiver that sees a fault listens no more.
        foreach ($one in $open) { $one.Sent = $one.Connection.SendAsync([ArraySegment[byte]]::new($one.Bytes), 'None') }
        foreach ($one in $open) {
            try { $null = $one.Sent.GetAwaiter().GetResult(); $one.Connection.Shutdown('Send') }
            # A receiver that has seen the fault does not read on.
            catch { if ($Cut -eq [long]::MaxValue -and -not $MayFail) { throw } }
        }

        $open
    }

    function Start-Receipt {
        param([string] $Name, [hashtable] $More = @{})
        $socket = "$TestDrive/$Name.sock"
        $job = Receive-VfioMultifdState -Uri "unix:$socket" -Timeout 60 -AsJob @More
        while (-not (Test-Path -LiteralPath $socket) -and $job.State -eq 'Running') { $null = Wait-Job -Job $job -Timeout 0.02 }
        [pscustomobject]@{ Job = $job; Socket = $socket }
    }

    function Complete-Receipt {
        param($Receipt)
        $null = Wait-Job -Job $Receipt.Job -Timeout 30
        $result = Receive-Job -Job $Receipt.Job -ErrorVariable script:failure -ErrorAction SilentlyContinue
        Remove-Job -Job $Receipt.Job -Force
        $result
    }
}

Describe 'A migration of two real VFIO devices' {
    BeforeAll {
        function Copy-ArchiveWithFault {
            param([string] $Destination)
            Copy-Item -LiteralPath "$TestDrive/archive" -Destination $Destination -Recurse
            $file = "$Destination/channel-1.stream"
            $bytes = [IO.File]::ReadAllBytes($file)
            $bytes[500000] = $bytes[500000] -bxor 1
            [IO.File]::WriteAllBytes($file, $bytes)
        }

        $destination = (New-Item -ItemType Directory -Path "$TestDrive/devices").FullName
        $clock = [Diagnostics.Stopwatch]::StartNew()
        $receipt = Start-Receipt 'first' @{ Destination = $destination; Archive = "$TestDrive/archive" }
        $connections = Send-Capture $receipt.Socket
        $received = Complete-Receipt $receipt
        $elapsed = $clock.Elapsed
        $connections.Connection.Dispose()
    }

    It 'is received with one result per device' {
        $failure | Should -BeNullOrEmpty
        $received.IdStr | Should -Be '0000:00:04.0/vfio', '0000:00:05.0/vfio'
        $received.Packets | Should -Be 49, 49
        $received.ConfigBytes | Should -Be 4132, 4132
        $received | ForEach-Object {
            $_.Bytes | Should -BeGreaterThan $_.PrecopyBytes
            $_.OutOfOrder | Should -BeGreaterThan 0
            $_.Warnings | Should -BeNullOrEmpty
        }
    }

    It 'is received with results that say where the state is and how fast it came' {
        $received.InstanceId | Should -Be 0, 0
        $received.Path | Should -Be "$destination/0000-00-04.0-vfio.state", "$destination/0000-00-05.0-vfio.state"
        $received.Archive | Should -Be "$TestDrive/archive", "$TestDrive/archive"
        $received.SpilledBytes | Should -Be 0, 0
        $received | ForEach-Object {
            $_.MaxQueuedBytes | Should -BeLessOrEqual ($_.Bytes - $_.PrecopyBytes)
            $_.Duration | Should -BeGreaterThan ([TimeSpan]::Zero)
            $_.Duration | Should -BeLessOrEqual $elapsed
            $_.Throughput | Should -Be ($_.Bytes / $_.Duration.TotalSeconds)
        }
    }

    It 'leaves a state file per device that passes every check' {
        foreach ($result in $received) {
            Test-DeviceState -Path $result.Path -Sha256 $result.Sha256 -Quiet | Should -BeTrue
        }
        (Get-ChildItem -LiteralPath $destination).Name | Should -Be @(
            '0000-00-04.0-vfio.state', '0000-00-04.0-vfio.state.json', '0000-00-05.0-vfio.state', '0000-00-05.0-vfio.state.json')
    }

    It 'leaves an archive that holds every byte of every connection' {
        $report = Test-DeviceState -Archive "$TestDrive/archive"
        $report.Passed | Should -BeTrue
        $report.Checks.Name | Should -Be 'Index', 'Digests', 'Channels', 'Device', 'Device'
        $kept = Get-ChildItem -Path "$TestDrive/archive/*.stream" | Get-FileHash
        $sent = Get-ChildItem -Path "$capture/conn*.c2s.bin" | Get-FileHash
        $kept.Hash | Sort-Object | Should -Be ($sent.Hash | Sort-Object)
    }

    It 'is replayed from the archive to another receiver' {
        $second = Start-Receipt 'second'
        $replay = Send-VfioMultifdState -Archive "$TestDrive/archive" -Uri "unix:$($second.Socket)"
        (Complete-Receipt $second).Sha256 | Should -Be $received.Sha256
        $replay.Verified | Should -BeTrue
        $replay.Channels | Should -Be 3
        $replay.Devices | Should -Be $received.IdStr
    }

    It 'goes on from its state files, all in one migration' {
        $third = Start-Receipt 'third'
        $sent = $received | Send-VfioMultifdState -Uri "unix:$($third.Socket)" -Channels 2 -PacketSize 100000
        $again = Complete-Receipt $third
        $again.Sha256 | Should -Be $received.Sha256
        $again.Bytes | Should -Be $received.Bytes
        $sent.Direction | Should -Be 'Send', 'Send'
    }

    It 'is not replayed when a byte of the archive has changed, and nothing is sent then' {
        Copy-ArchiveWithFault "$TestDrive/changed"
        Send-VfioMultifdState -Archive "$TestDrive/changed" -Uri "unix:$TestDrive/nobody" -ErrorVariable failed -ErrorAction SilentlyContinue
        $failed.Exception.ErrorId | Should -Be 'MultifdArchiveInvalid'
        $failed.ErrorDetails.RecommendedAction | Should -Not -BeNullOrEmpty
        (Test-DeviceState -Archive "$TestDrive/changed").Passed | Should -BeFalse
    }

    It 'is replayed unverified with -SkipVerification, which the result says' {
        Copy-ArchiveWithFault "$TestDrive/trusted"
        $receipt = Start-Receipt 'unverified'
        $replay = Send-VfioMultifdState -Archive "$TestDrive/trusted" -Uri "unix:$($receipt.Socket)" -SkipVerification
        $again = Complete-Receipt $receipt
        $failure | Should -BeNullOrEmpty
        $replay.Verified | Should -BeFalse
        $again.Bytes | Should -Be $received.Bytes
        @(Compare-Object -ReferenceObject $received.Sha256 -DifferenceObject $again.Sha256).Count | Should -Be 2
    }

    It 'is received the same within the smallest -MemoryBudget' {
        $folder = (New-Item -ItemType Directory -Path "$TestDrive/small").FullName
        $receipt = Start-Receipt 'small' @{ Destination = $folder; MemoryBudget = 1MB }
        $connections = Send-Capture $receipt.Socket
        $small = Complete-Receipt $receipt
        $connections.Connection.Dispose()
        $small.Sha256 | Should -Be $received.Sha256
        @(Get-ChildItem -LiteralPath $folder -Force).Count | Should -Be 4
    }

    It 'is refused by name when <Name>' -ForEach @(
        @{ Name = 'it has more channels than -Channels'; More = @{ Channels = 2 }; Error = 'MultifdChannelIdOutOfRange' }
        @{ Name = 'a packet is beyond -PacketLimit'; More = @{ PacketLimit = 8192 }; Error = 'StreamPacketTooLarge' }
        @{ Name = 'its pages are not of -PageSize'; More = @{ PageSize = 65536 }; Error = 'StreamInvalid(RamPacket|PacketMagic)' }
    ) {
        $receipt = Start-Receipt 'refused' $More
        $connections = Send-Capture $receipt.Socket -MayFail
        Complete-Receipt $receipt | Should -BeNullOrEmpty
        $connections.Connection.Dispose()
        $failure[0].Exception.ErrorId | Should -Match "^$Error`$"
        $failure[0].ErrorDetails.RecommendedAction | Should -Not -BeNullOrEmpty
    }

    It 'survives a trip through the serializer that remoting uses' {
        $copy = [Management.Automation.PSSerializer]::Deserialize([Management.Automation.PSSerializer]::Serialize($received[0]))
        $copy.Sha256 | Should -Be $received[0].Sha256
        $copy.Path | Should -Be $received[0].Path
    }
}

Describe 'A migration that does not come to its end' {
    It 'is an error with a name, and leaves nothing' {
        $destination = (New-Item -ItemType Directory -Path "$TestDrive/half").FullName
        $receipt = Start-Receipt 'half' @{ Destination = $destination; Archive = "$TestDrive/half-archive" }
        $connections = Send-Capture $receipt.Socket -Cut 600000
        Complete-Receipt $receipt | Should -BeNullOrEmpty
        $connections.Connection.Dispose()
        $failure[0].FullyQualifiedErrorId | Should -Match '^(Multifd|Vfio)\w+'
        Get-ChildItem -LiteralPath $destination -Force | Should -BeNullOrEmpty
        Test-Path -Path "$TestDrive/half-archive*" | Should -BeFalse
        Test-Path -LiteralPath $receipt.Socket | Should -BeFalse
    }

    It 'ends within a second when its job is stopped' {
        $receipt = Start-Receipt 'stopped' @{ Archive = "$TestDrive/stopped" }
        $clock = [Diagnostics.Stopwatch]::StartNew()
        Stop-Job -Job $receipt.Job
        $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
        Remove-Job -Job $receipt.Job
        Test-Path -Path "$TestDrive/stopped*" | Should -BeFalse
    }

    It 'gives up after -Timeout and says who was missing' {
        Receive-VfioMultifdState -Uri "unix:$TestDrive/t.sock" -Archive "$TestDrive/t" -Timeout 0.3 -ErrorVariable failed -ErrorAction SilentlyContinue
        $failed.Exception.ErrorId | Should -Be 'MultifdNoProgress'
        $failed.Exception.Message | Should -BeLike '*Nobody has connected.'
        $failed.CategoryInfo.Category | Should -Be 'OperationTimeout'
    }
}

Describe 'What is refused before anything happens' {
    It 'touches nothing with -WhatIf' {
        Receive-VfioMultifdState -Uri "unix:$TestDrive/w.sock" -Archive "$TestDrive/w" -WhatIf
        Send-VfioMultifdState -Archive "$TestDrive/none" -Uri "unix:$TestDrive/w.sock" -WhatIf
        Save-VfioState -VfioDevice /dev/vfio/devices/vfio99 -Path "$TestDrive/w.state" -WhatIf
        Restore-VfioState -VfioDevice /dev/vfio/devices/vfio99 -Path "$TestDrive/w.state" -WhatIf
        Test-Path -Path "$TestDrive/w*" | Should -BeFalse
    }

    It 'does not listen on a network without TLS' {
        Receive-VfioMultifdState -Uri 'tcp:0.0.0.0:0' -ErrorVariable failed -ErrorAction SilentlyContinue
        $failed.Exception.ErrorId | Should -Be 'WirePlaintextRefused'
    }

    It 'does not listen where nothing would be kept' {
        Receive-VfioMultifdState -Uri "unix:$TestDrive/k.sock" -ErrorVariable failed -ErrorAction SilentlyContinue
        $failed.Exception.ErrorId | Should -Be 'VfioNoDestination'
        $failed.CategoryInfo.Category | Should -Be 'InvalidArgument'
        Receive-VfioMultifdState -Uri "unix:$TestDrive/k.sock" -Archive "$TestDrive/k" -IdStr a/vfio -ErrorVariable failed -ErrorAction SilentlyContinue
        $failed.Exception.ErrorId | Should -Be 'VfioNoDestination'
        Test-Path -Path "$TestDrive/k*" | Should -BeFalse
    }

    It 'does not write over an archive' {
        $folder = (New-Item -ItemType Directory -Path "$TestDrive/full").FullName
        Set-Content -LiteralPath "$folder/index.json" -Value '{}'
        Receive-VfioMultifdState -Uri "unix:$TestDrive/f.sock" -Archive $folder -ErrorVariable failed -ErrorAction SilentlyContinue
        $failed.Exception.ErrorId | Should -Be 'MultifdArchiveExists'
    }

    It 'does not send a file that is no state of a VFIO device' {
        Set-Content -LiteralPath "$TestDrive/no.state" -Value ('x' * 100)
        Send-VfioMultifdState -Path "$TestDrive/no.state" -Uri "unix:$TestDrive/nobody" -ErrorVariable failed -ErrorAction SilentlyContinue
        $failed.Exception.ErrorId | Should -Be 'StateFileNotAStateFile'
    }
}

Describe 'A VFIO device that is not there' {
    It '<Name> says so' -ForEach @(
        @{ Name = 'Get-VfioDevice'; Run = { Get-VfioDevice -Path /dev/vfio/devices/vfio99 @quiet } }
        @{ Name = 'Save-VfioState'; Run = { Save-VfioState -VfioDevice /dev/vfio/devices/vfio99 -Path "$TestDrive/s.state" @quiet } }
        @{ Name = 'Restore-VfioState'; Run = { Restore-VfioState -VfioDevice /dev/vfio/devices/vfio99 -Path "$TestDrive/s.state" @quiet } }
        @{ Name = 'Receive-VfioMultifdState'; Run = { Receive-VfioMultifdState -Uri "unix:$TestDrive/d.sock" -VfioDevice /dev/vfio/devices/vfio99 @quiet } }
        @{ Name = 'Send-VfioMultifdState'; Run = { Send-VfioMultifdState -VfioDevice /dev/vfio/devices/vfio99 -Uri "unix:$TestDrive/d.sock" @quiet } }
        @{ Name = 'Get-VfioDevice by address'; Run = { Get-VfioDevice -Path ffff:00:00.0 @quiet } }
    ) {
        $quiet = @{ ErrorVariable = 'failed'; ErrorAction = 'SilentlyContinue' }
        . $Run
        $failed.Exception.ErrorId | Should -Be 'VfioDeviceNotFound'
        $failed.CategoryInfo.Category | Should -Be 'ObjectNotFound'
        Test-Path -LiteralPath "$TestDrive/s.state" | Should -BeFalse
    }
}
