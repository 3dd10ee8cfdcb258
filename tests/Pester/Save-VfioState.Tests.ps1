BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Save-VfioState' {
    BeforeEach {
        $machine = New-MadeMachine
        $content = New-StateBytes
        $machine.AddPci('0000:3b:00.2', $content, 'mlx5-vfio-pci', 11, $true)
        $file = "$TestDrive/$([Guid]::NewGuid().ToString('N')).state"
    }
    AfterEach { $machine.Dispose() }

    It 'saves the whole state, says what the device was left in, and the file passes' {
        $saved = Save-VfioState -VfioDevice 0000:3b:00.2 -Path $file -WarningVariable warned
        "$($saved.Direction) $($saved.IdStr) $($saved.Bytes) $($saved.DeviceState) $($saved.Path)" | Should -BeExactly "Save 0000:3b:00.2/vfio 300000 STOP $file"
        $saved.Sha256 | Should -Be ([Convert]::ToHexStringLower([Security.Cryptography.SHA256]::HashData($content)))
        $machine.GetState('0000:3b:00.2') | Should -BeExactly STOP
        (Test-DeviceState -Path $file).Passed | Should -BeTrue
        $warned | Should -BeNullOrEmpty
    }

    It 'writes the config state that QEMU has of a device which no guest has touched' {
        $saved = Save-VfioState -VfioDevice 0000:3b:00.2 -Path $file -Marker
        # 12 bytes before the space of 4096, 16 bytes of interrupts, three MSI-X vectors of 16 bytes and a byte of bits, 8 bytes after.
        $saved.ConfigBytes | Should -Be (12 + 4096 + 16 + 48 + 1 + 8)
        [Convert]::ToHexString([IO.File]::ReadAllBytes($file)).Contains('FFFFFFFFEF10000200000002B3151E100000') | Should -BeTrue
    }

    It 'binds to what Get-VfioDevice lists, and works as a job' {
        $job = Get-VfioDevice | Save-VfioState -Path $file -AsJob
        ($job | Wait-Job | Receive-Job -Wait -AutoRemoveJob).Bytes | Should -Be 300000
    }

    It 'begins from <From>' -ForEach @(@{ From = 'STOP' }, @{ From = 'STOP_COPY' }, @{ From = 'RUNNING_P2P' }) {
        $machine.SetState('0000:3b:00.2', $From)
        (Save-VfioState -VfioDevice 0000:3b:00.2 -Path $file).Bytes | Should -Be 300000
    }

    It 'refuses a device in <From>, which holds no whole state, and leaves it and the file as they are' -ForEach @(
        @{ From = 'ERROR'; Id = 'VfioDeviceInError' }, @{ From = 'RESUMING'; Id = 'VfioLoadInterrupted' }
    ) {
        $machine.SetState('0000:3b:00.2', $From)
        Set-Content -LiteralPath $file -Value before
        $failure = Get-Failure { Save-VfioState -VfioDevice 0000:3b:00.2 -Path $file }
        Assert-Failure $failure -Id $Id -Category InvalidOperation -Message "*$From*" -Target 0000:3b:00.2
        $machine.GetState('0000:3b:00.2') | Should -BeExactly $From
        Get-Content -LiteralPath $file | Should -BeExactly before
    }

    It 'takes the device back to where it was when the file cannot be completed, and says so' {
        $folder = New-Item -ItemType Directory -Path "$file.d/target"
        $null = Get-Failure { Save-VfioState -VfioDevice 0000:3b:00.2 -Path $folder.FullName -WarningAction SilentlyContinue }
        $machine.GetState('0000:3b:00.2') | Should -BeExactly RUNNING
        Save-VfioState -VfioDevice 0000:3b:00.2 -Path $file | ForEach-Object -MemberName Bytes | Should -Be 300000
    }

    It 'does nothing with -WhatIf' {
        Save-VfioState -VfioDevice 0000:3b:00.2 -Path $file -WhatIf
        Test-Path -LiteralPath $file | Should -BeFalse
        $machine.Opened | Should -Be 0
    }

    It 'names who holds the device' {
        $machine.Hold(4711, 'qemu-system-x86', 'dev/vfio/11')
        # Whoever opens it is told by the kernel that it is busy; the listing knows it before.
        (Get-VfioDevice 0000:3b:00.2).Message | Should -BeLike '*4711 (qemu-system-x86)*'
    }
}
