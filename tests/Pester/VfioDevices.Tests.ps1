BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'A VFIO device that is not there' {
    It 'is not touched with -WhatIf' {
        Save-VfioState -VfioDevice /dev/vfio/devices/vfio99 -Path "$TestDrive/w.state" -WhatIf
        Restore-VfioState -VfioDevice /dev/vfio/devices/vfio99 -Path "$TestDrive/w.state" -WhatIf
        Test-Path -Path "$TestDrive/w*" | Should -BeFalse
    }

    It '<Name> says so' -ForEach @(
        @{ Name = 'Get-VfioDevice'; Run = { Get-VfioDevice -Path /dev/vfio/devices/vfio99 @quiet } }
        @{ Name = 'Save-VfioState'; Run = { Save-VfioState -VfioDevice /dev/vfio/devices/vfio99 -Path "$TestDrive/s.state" @quiet } }
        @{ Name = 'Restore-VfioState'; Run = { Restore-VfioState -VfioDevice /dev/vfio/devices/vfio99 -Path "$TestDrive/s.state" @quiet } }
        @{ Name = 'Get-VfioDevice by address'; Run = { Get-VfioDevice -Path ffff:00:00.0 @quiet } }
    ) {
        $quiet = @{ ErrorVariable = 'failed'; ErrorAction = 'SilentlyContinue' }
        . $Run
        $failed.Exception.ErrorId | Should -Be 'VfioDeviceNotFound'
        $failed.CategoryInfo.Category | Should -Be 'ObjectNotFound'
        Test-Path -LiteralPath "$TestDrive/s.state" | Should -BeFalse
    }
}
