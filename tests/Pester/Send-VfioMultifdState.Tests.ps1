BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/VfioCapture.ps1"
}

Describe 'Send-VfioMultifdState' {
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
        $receipt = Start-Receipt 'first' @{ Destination = $destination; Archive = "$TestDrive/archive" }
        $connections = Send-Capture $receipt.Socket
        $received = Complete-Receipt $receipt
        $connections.Connection.Dispose()
    }

    It 'replays an archive to another receiver' {
        $second = Start-Receipt 'second'
        $replay = Send-VfioMultifdState -Archive "$TestDrive/archive" -Uri "unix:$($second.Socket)"
        (Complete-Receipt $second).Sha256 | Should -Be $received.Sha256
        $replay.Verified | Should -BeTrue
        $replay.Channels | Should -Be 3
        $replay.Devices | Should -Be $received.IdStr
    }

    It 'sends state files, all in one migration' {
        $third = Start-Receipt 'third'
        $sent = $received | Send-VfioMultifdState -Uri "unix:$($third.Socket)" -Channels 2 -PacketSize 100000
        $again = Complete-Receipt $third
        $again.Sha256 | Should -Be $received.Sha256
        $again.Bytes | Should -Be $received.Bytes
        $sent.Direction | Should -Be 'Send', 'Send'
    }

    It 'does not replay an archive of which a byte has changed, and sends nothing then' {
        Copy-ArchiveWithFault "$TestDrive/changed"
        Send-VfioMultifdState -Archive "$TestDrive/changed" -Uri "unix:$TestDrive/absent" -ErrorVariable failed -ErrorAction SilentlyContinue
        $failed.Exception.ErrorId | Should -Be 'MultifdArchiveInvalid'
        $failed.ErrorDetails.RecommendedAction | Should -Not -BeNullOrEmpty
        (Test-DeviceState -Archive "$TestDrive/changed").Passed | Should -BeFalse
    }

    It 'replays unverified with -SkipVerification, which the result says' {
        Copy-ArchiveWithFault "$TestDrive/trusted"
        $receipt = Start-Receipt 'unverified'
        $replay = Send-VfioMultifdState -Archive "$TestDrive/trusted" -Uri "unix:$($receipt.Socket)" -SkipVerification
        $again = Complete-Receipt $receipt
        $failure | Should -BeNullOrEmpty
        $replay.Verified | Should -BeFalse
        $again.Bytes | Should -Be $received.Bytes
        @(Compare-Object -ReferenceObject $received.Sha256 -DifferenceObject $again.Sha256).Count | Should -Be 2
    }

    It 'sends nothing with -WhatIf' {
        Send-VfioMultifdState -Archive "$TestDrive/none" -Uri "unix:$TestDrive/w.sock" -WhatIf | Should -BeNullOrEmpty
        $received | Send-VfioMultifdState -Uri "unix:$TestDrive/w.sock" -WhatIf | Should -BeNullOrEmpty
    }

    It 'does not send a file that is no state of a VFIO device' {
        Set-Content -LiteralPath "$TestDrive/no.state" -Value ('x' * 100)
        Send-VfioMultifdState -Path "$TestDrive/no.state" -Uri "unix:$TestDrive/absent" -ErrorVariable failed -ErrorAction SilentlyContinue
        $failed.Exception.ErrorId | Should -Be 'StateFileNotAStateFile'
    }

    It 'says that a device is not there' {
        Send-VfioMultifdState -VfioDevice /dev/vfio/devices/vfio99 -Uri "unix:$TestDrive/d.sock" -ErrorVariable failed -ErrorAction SilentlyContinue
        $failed.Exception.ErrorId | Should -Be 'VfioDeviceNotFound'
        $failed.CategoryInfo.Category | Should -Be 'ObjectNotFound'
    }
}
