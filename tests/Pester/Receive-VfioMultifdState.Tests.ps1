BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/VfioCapture.ps1"
}

Describe 'A migration of two real VFIO devices' {
    BeforeAll {
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
        @{ Name = 'its pages are not of -PageSize'; More = @{ PageSize = 65536 }; Error = 'StreamInvalid(Ram|RamPacket|PacketMagic)' }
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
        $failure[0].FullyQualifiedErrorId | Should -Match '^Stream(Truncated|MissingPacket)'
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
        $failed.Exception.Message | Should -BeLike '*No peer has connected.'
        $failed.CategoryInfo.Category | Should -Be 'OperationTimeout'
    }
}

Describe 'What Receive-VfioMultifdState refuses before anything happens' {
    It 'touches nothing with -WhatIf' {
        Receive-VfioMultifdState -Uri "unix:$TestDrive/w.sock" -Archive "$TestDrive/w" -WhatIf
        Test-Path -Path "$TestDrive/w*" | Should -BeFalse
    }

    It 'does not listen on a network without TLS' {
        Receive-VfioMultifdState -Uri 'tcp:0.0.0.0:0' -Archive "$TestDrive/n" -ErrorVariable failed -ErrorAction SilentlyContinue
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

    It 'says that a device is not there' {
        Receive-VfioMultifdState -Uri "unix:$TestDrive/d.sock" -VfioDevice /dev/vfio/devices/vfio99 -ErrorVariable failed -ErrorAction SilentlyContinue
        $failed.Exception.ErrorId | Should -Be 'VfioDeviceNotFound'
        $failed.CategoryInfo.Category | Should -Be 'ObjectNotFound'
    }
}
