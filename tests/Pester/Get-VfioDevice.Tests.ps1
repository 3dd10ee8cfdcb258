BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Get-VfioDevice' {
    BeforeEach { $machine = New-MadeMachine }
    AfterEach { $machine.Dispose() }

    It 'lists from sysfs what a device is and opens none, because opening an idle PCI device resets it' {
        $machine.AddPci('0000:3b:00.2', (New-StateBytes), 'mlx5-vfio-pci', 11, $true)
        $machine.AddMediated('83b8f4f2-509f-382f-3c1e-000000000001', (New-StateBytes), 12, $false)
        $nic, $mdev = Get-VfioDevice
        "$($nic.Name) $($nic.PciAddress) $($nic.PciId) $($nic.Driver) $($nic.Group) $($nic.Interface) $($nic.Usable)" |
            Should -BeExactly '0000:3b:00.2 0000:3b:00.2 15b3:101e mlx5-vfio-pci 11 CharacterDevice True'
        "$($mdev.MdevUuid) $($mdev.MdevType) $($mdev.Driver) $($mdev.Group) $($mdev.Interface) $($mdev.Usable)" |
            Should -BeExactly '83b8f4f2-509f-382f-3c1e-000000000001 mtty-1 mtty 12 Group True'
        $mdev.Path | Should -BeExactly $machine.At('dev/vfio/12')
        $nic.Migratable, $nic.Probed | Should -Be $null, $false
        $machine.Opened | Should -Be 0
    }

    It 'says why a device cannot be used, each reason by a name of its own: <Reason>' -ForEach @(
        @{ Reason = 'VfioDeviceBusy'; Message = "*4711 (qemu-system-x86)*"; Make = { $machine.AddPci('0000:01:00.0', @(1), 'v', 1, $true); $machine.Hold(4711, 'qemu-system-x86', 'dev/vfio/devices/vfio0') } }
        @{ Reason = 'VfioAccessDenied'; Message = '*may not open*/dev/vfio/1 *'; Make = { $machine.AddPci('0000:01:00.0', @(1), 'v', 1, $false); $machine.Deny('dev/vfio/1') } }
        @{ Reason = 'VfioNoIommufd'; Message = '*/dev/iommu*'; Make = { $machine.AddPci('0000:01:00.0', @(1), 'v', 1, $true); $machine.Remove('dev/iommu'); $machine.Remove('dev/vfio/1') } }
        @{ Reason = 'VfioNoInterface'; Message = '*group 1*'; Make = { $machine.AddPci('0000:01:00.0', @(1), 'v', 1, $false); $machine.Remove('dev/vfio/1') } }
        @{ Reason = 'VfioGroupNotViable'; Message = '*0000:01:00.1 (e1000e)*'; Make = { $machine.AddPci('0000:01:00.0', @(1), 'v', 1, $false); $machine.AddHostDevice('0000:01:00.1', 'e1000e', 1) } }
        @{ Reason = 'VfioNotMigratable'; Message = '*vfio-pci*'; Make = { $machine.AddPci('0000:01:00.0', $null, 'vfio-pci', 1, $true) } }
    ) {
        & $Make
        $device = Get-VfioDevice -Probe
        "$($device.Usable) $($device.Reason)" | Should -BeExactly "False $Reason"
        $device.Message | Should -BeLike $Message
        $machine.Opened | Should -Be 0
    }

    It 'opens with -Probe alone, and then says what the driver can do' {
        $machine.AddPci('0000:01:00.0', (New-StateBytes -Length 1234), 'v', 1, $true)
        $machine.AddPci('0000:02:00.0', $null, 'other', 2, $true)
        $able, $unable = Get-VfioDevice -Probe
        "$($able.Probed) $($able.Migratable) $($able.Flags) $($able.State) $($able.StopCopySize)" | Should -BeExactly 'True True STOP_COPY P2P RUNNING 1234'
        "$($unable.Probed) $($unable.Migratable) $($unable.Usable) $($unable.Reason)" | Should -BeExactly 'True False False VfioNotMigratable'
        $machine.Opened | Should -Be 2
    }

    It 'takes any name of a device, from the pipeline too' {
        $machine.AddPci('0000:01:00.0', @(1), 'v', 1, $true)
        $found = '0000:01:00.0', $machine.At('dev/vfio/devices/vfio0'), $machine.At('dev/vfio/1'), $machine.At('sys/bus/pci/devices/0000:01:00.0') | Get-VfioDevice
        $found.Name | Select-Object -Unique | Should -BeExactly '0000:01:00.0'
        $found.Interface | Should -Be 'CharacterDevice', 'CharacterDevice', 'Group', 'CharacterDevice'
        Get-VfioDevice | Get-VfioDevice | ForEach-Object -MemberName Name | Should -BeExactly '0000:01:00.0'
    }

    It 'tells a device that is absent from one of another driver and from a group of several' {
        $machine.AddPci('0000:01:00.0', @(1), 'v', 1, $true)
        $machine.AddPci('0000:01:00.1', @(1), 'v', 1, $true)
        $machine.AddHostDevice('0000:00:1f.6', 'e1000e', 3)
        'ffff:00:00.0', '0000:00:1f.6', $machine.At('dev/vfio/1') | Get-VfioDevice -ErrorVariable failed -ErrorAction SilentlyContinue | Should -BeNullOrEmpty
        $failed.Exception.ErrorId | Should -Be 'VfioDeviceNotFound', 'VfioNotBound', 'VfioSeveralDevices'
        $failed[1].Exception.Message | Should -BeLike '*e1000e*'
    }

    It 'names a group without an IOMMU as what it is' {
        $machine.AddPci('0000:01:00.0', @(1), 'v', 1, $false)
        $machine.MakeNoIommu(1)
        (Get-VfioDevice).Interface | Should -Be 'NoIommuGroup'
    }
}
