BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Restore-VfioState' {
    BeforeEach {
        $machine = New-MadeMachine
        $content = New-StateBytes
        $machine.AddPci('0000:01:00.0', $content, 'v', 1, $true)
        $machine.AddPci('0000:02:00.0', @(1, 2, 3), 'v', 2, $true)
        $file = "$TestDrive/$([Guid]::NewGuid().ToString('N')).state"
        $saved = Save-VfioState -VfioDevice 0000:01:00.0 -Path $file
    }
    AfterEach { $machine.Dispose() }

    It 'loads a saved state whole and says what the device was left in' {
        $loaded = $saved | Restore-VfioState -VfioDevice 0000:02:00.0
        "$($loaded.Direction) $($loaded.Bytes) $($loaded.Sha256) $($loaded.DeviceState)" | Should -BeExactly "Restore 300000 $($saved.Sha256) RUNNING"
        [Linq.Enumerable]::SequenceEqual([byte[]] $machine.GetContent('0000:02:00.0'), [byte[]] $content) | Should -BeTrue
        $machine.GetState('0000:02:00.0') | Should -BeExactly RUNNING
        $machine.GetResets('0000:02:00.0') | Should -Be 0
        $loaded.Warnings | Should -HaveCount 1
        $loaded.Warnings | Should -BeLike '*compared with the device and not loaded*'
    }

    It 'leaves the device in STOP where that is asked for' {
        (Restore-VfioState -VfioDevice 0000:02:00.0 -Path $file -LeaveStopped).DeviceState | Should -BeExactly STOP
        $machine.GetState('0000:02:00.0') | Should -BeExactly STOP
    }

    It 'loads the marker stream of a section' {
        $null = Resume-VfioDevice 0000:01:00.0
        $null = Save-VfioState -VfioDevice 0000:01:00.0 -Path "$file.markers" -Marker
        (Restore-VfioState -VfioDevice 0000:02:00.0 -Path "$file.markers" -Marker).Sha256 | Should -Be $saved.Sha256
    }

    It 'begins from <From>, which it resets first, and says so' -ForEach @(@{ From = 'ERROR' }, @{ From = 'RESUMING' }) {
        $machine.SetState('0000:02:00.0', $From)
        (Restore-VfioState -VfioDevice 0000:02:00.0 -Path $file).Warnings[0] | Should -BeLike "*was in $From and was reset*"
        $machine.GetResets('0000:02:00.0') | Should -Be 1
        $machine.GetContent('0000:02:00.0').Count | Should -Be 300000
    }

    It 'verifies the file before it touches the device' {
        $bytes = [IO.File]::ReadAllBytes($file)
        $bytes[1000] = $bytes[1000] -bxor 1
        [IO.File]::WriteAllBytes($file, $bytes)
        $failure = Get-Failure { Restore-VfioState -VfioDevice 0000:02:00.0 -Path $file }
        $failure.FullyQualifiedErrorId | Should -BeLike 'StateFile*'
        "$($machine.GetState('0000:02:00.0')) $($machine.GetContent('0000:02:00.0')) $($machine.GetResets('0000:02:00.0'))" | Should -BeExactly 'RUNNING 1 2 3 0'
    }

    It 'does nothing with -WhatIf' {
        $opened = $machine.Opened
        Restore-VfioState -VfioDevice 0000:02:00.0 -Path $file -WhatIf
        $machine.Opened | Should -Be $opened
    }
}
