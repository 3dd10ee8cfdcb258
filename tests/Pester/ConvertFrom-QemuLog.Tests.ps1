BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'ConvertFrom-QemuLog' {
    It 'gives a line without a device the device that a later line names' {
        $log = @'
2026-11-20T10:00:00.123456Z qemu-system-x86_64: get_pci_config_device: Bad config data: i=0x9a read: 2 device: 3 cmask: ff wmask: 0 w1cmask:0
2026-11-20T10:00:00.123460Z qemu-system-x86_64: Failed to load PCIDevice:config
2026-11-20T10:00:00.123470Z qemu-system-x86_64: error while loading state for instance 0x1 of device '0000:00:01.0/virtio-blk'
2026-11-20T10:00:00.123480Z qemu-system-x86_64: load of migration failed: Invalid argument
'@
        $found = $log -split "`n" | ConvertFrom-QemuLog
        $found.Kind | Should -Be 'BadConfigData', 'FieldNotLoaded', 'DeviceFailed', 'LoadFailed'
        $found[0].Device | Should -Be '0000:00:01.0/virtio-blk'
        $found[0].InstanceId | Should -Be 1
        $found[0].Field | Should -Be '0x9a'
        $found[0].StreamValue | Should -Be '2'
        $found[0].LocalValue | Should -Be '3'
        $found[0].Meaning | Should -BeLike 'Byte 0x9a * is 2 in the stream and 3 here*'
        $found[3].Device | Should -BeNullOrEmpty
    }

    It 'leaves out what it does not know, unless all is asked for' {
        'qemu-system-x86_64: warning: something else' | ConvertFrom-QemuLog | Should -BeNullOrEmpty
        ('qemu-system-x86_64: warning: something else' | ConvertFrom-QemuLog -All).Kind | Should -Be 'Unknown'
    }

    It 'takes the lines as one text too' {
        (ConvertFrom-QemuLog "Missing section footer for ram`nload of migration failed: Invalid argument").Kind | Should -Be 'MissingFooter', 'LoadFailed'
    }

    It 'says where the device lies in the stream that is given' {
        $stream = "$repository/tests/MigrationOps.Engine.Tests/Vectors/Streams/none-tcg.plain.stream"
        $found = "error while loading state for instance 0x0 of device 'timer'" | ConvertFrom-QemuLog -StreamPath $stream
        $found.Offset | Should -Be (Get-MigrationStream $stream).Sections.Where({ $_.IdStr -eq 'timer' })[0].Offset
    }

    It 'tells a line after which QEMU continues from one that ends the load' {
        ("UUID is received 11112222-3333-4444-5555-666677778888, but local uuid isn't set" | ConvertFrom-QemuLog).Refuses | Should -BeFalse
        ('Machine type received is ''pc-q35-9.0'' and local is ''pc-q35-10.0''' | ConvertFrom-QemuLog).Refuses | Should -BeTrue
    }
}
