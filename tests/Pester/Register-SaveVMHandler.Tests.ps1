BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Register-SaveVMHandler' {
    AfterEach {
        Get-SaveVMHandler | Unregister-SaveVMHandler
    }

    It 'numbers devices of one name, and orders them by priority' {
        (Register-SaveVMHandler a -SaveState { }).InstanceId | Should -Be 0
        (Register-SaveVMHandler a -SaveState { } -Priority 3).InstanceId | Should -Be 1
        (Register-SaveVMHandler a -SaveState { } -InstanceId 9).InstanceId | Should -Be 9
        (Get-SaveVMHandler).InstanceId | Should -Be 1, 0, 9
    }

    It 'tells what a device offers' {
        $device = Register-SaveVMHandler a -VersionId 4 -SaveState { } -LoadState { }
        $device | Should -BeOfType MigrationOps.SaveVmRegistration
        "$($device.Offered)" | Should -Be 'SaveState, LoadState'
        $device.Handlers | Should -Be ScriptBlock
        $device.VersionId | Should -Be 4
    }

    It 'loads what a source wrote under an older name' {
        $loaded = [Collections.Generic.List[int]]::new()
        0..1 | ForEach-Object { $null = Register-SaveVMHandler acme/old -SaveState { param($Stream) $Stream.WriteUInt16(5) } }
        $null = Send-MigrationStream "file:$TestDrive/old.stream"
        Get-SaveVMHandler | Unregister-SaveVMHandler
        $load = { param($Stream, $Context) $loaded.Add($Stream.ReadUInt16()); $loaded.Add($Context.InstanceId) }
        (Register-SaveVMHandler acme/new -InstanceId 7 -LoadState $load -Alias acme/old).Aliases | Should -Be acme/old
        (Register-SaveVMHandler acme/new -Alias acme/old/1, acme/older -LoadState $load).Aliases | Should -Be acme/old/1, acme/older
        (Receive-MigrationStream "file:$TestDrive/old.stream").Devices | Should -Be acme/new/7, acme/new/8
        $loaded | Should -Be 5, 7, 5, 8
        (Get-Failure { Register-SaveVMHandler other -Alias acme/older -LoadState { } }).FullyQualifiedErrorId | Should -BeLike 'SaveVmDuplicateEntry,*'
    }

    It 'lets the state of a vhost-user back-end travel as a section' {
        $source = Start-Backend -State (1..100)
        $target = Start-Backend -State (1, 2)
        $null = Register-SaveVMHandler fs0 -VhostBackend $source.SocketPath
        (Send-MigrationStream "file:$TestDrive/fs.stream").Devices | Should -Be fs0
        Unregister-SaveVMHandler fs0
        (Register-SaveVMHandler fs0 -VhostBackend $target.SocketPath -Timeout 5).Handlers | Should -Be VhostBackendDevice
        $null = Receive-MigrationStream "file:$TestDrive/fs.stream"
        $source.BytesSaved | Should -Be 100
        $target.BytesLoaded | Should -Be 100
        Stop-StartedBackend
    }

    It 'lets a directory travel while it is in use, with what was changed and deleted meanwhile' {
        $source = New-Item -ItemType Directory -Path "$TestDrive/$([Guid]::NewGuid())"
        $target = "$TestDrive/$([Guid]::NewGuid())"
        $null = New-Item -ItemType Directory -Path "$source/sub"
        Set-Content -LiteralPath "$source/sub/a" -Value before
        Set-Content -LiteralPath "$source/gone" -Value x
        (Register-SaveVMHandler -Directory $source).IdStr | Should -Be directory
        $null = Send-MigrationStream "file:$TestDrive/tree.stream" -StopDevice {
            Set-Content -LiteralPath "$source/sub/a" -Value after
            Remove-Item -LiteralPath "$source/gone"
        }
        Unregister-SaveVMHandler directory
        (Register-SaveVMHandler -Directory $target).Handlers | Should -Be DirectoryDevice
        $null = Receive-MigrationStream "file:$TestDrive/tree.stream"
        Get-Content -LiteralPath "$target/sub/a" | Should -Be after
        (Get-ChildItem -LiteralPath $target -Recurse -Force).Name | Should -Be sub, a
    }

    It 'takes only the files of a directory that -Include names' {
        $source = New-Item -ItemType Directory -Path "$TestDrive/$([Guid]::NewGuid())"
        Set-Content -LiteralPath "$source/a.conf", "$source/b.log" -Value x
        $null = Register-SaveVMHandler -Directory $source -Include *.conf
        $null = Send-MigrationStream "file:$TestDrive/set.stream"
        Get-SaveVMHandler | Unregister-SaveVMHandler
        $null = Register-SaveVMHandler -Directory "$TestDrive/set"
        $null = Receive-MigrationStream "file:$TestDrive/set.stream"
        (Get-ChildItem -LiteralPath "$TestDrive/set").Name | Should -Be a.conf
    }

    It 'does not load a directory into one that holds something' {
        $source = New-Item -ItemType Directory -Path "$TestDrive/$([Guid]::NewGuid())"
        $null = Register-SaveVMHandler -Directory $source
        $null = Send-MigrationStream "file:$TestDrive/full.stream"
        Set-Content -LiteralPath "$source/mine" -Value x
        $failure = Get-Failure { Receive-MigrationStream "file:$TestDrive/full.stream" }
        $failure.Exception.Message | Should -BeLike "*has 'mine' in it*"
        $failure.Exception.InnerException.ErrorId | Should -Be DirectoryDestinationNotEmpty
        (Get-ChildItem -LiteralPath $source -Force).Name | Should -Be mine
    }

    It 'lets a state file travel with its manifest, verified on both sides' {
        $backend = Start-Backend -State (1..50)
        $null = Start-VhostStateSave -SocketPath $backend.SocketPath -Path "$TestDrive/one.state"
        $null = Register-SaveVMHandler -StateFile "$TestDrive/one.state"
        $null = Send-MigrationStream "file:$TestDrive/file.stream"
        Unregister-SaveVMHandler state-file
        $null = Register-SaveVMHandler -StateFile "$TestDrive/two.state"
        $null = Receive-MigrationStream "file:$TestDrive/file.stream"
        (Test-DeviceState -Path "$TestDrive/two.state").Passed | Should -BeTrue
        Stop-StartedBackend
    }

    It 'names a VFIO device that is not there when a migration begins' {
        (Register-SaveVMHandler -VfioDevice /dev/vfio/devices/vfio99).Handlers | Should -Be VfioSectionDevice
        $failure = Get-Failure { Send-MigrationStream "file:$TestDrive/vfio.stream" }
        $failure.Exception.InnerException.ErrorId | Should -Be VfioDeviceNotFound
        Test-Path -LiteralPath "$TestDrive/vfio.stream" | Should -BeFalse
    }

    It 'refuses <Name>' -ForEach @(
        @{ Name = 'a name that is taken'; Id = 'SaveVmDuplicateEntry'; Script = { 1..2 | ForEach-Object { Register-SaveVMHandler a -InstanceId 0 -SaveState { } } } }
        @{ Name = 'a device without handlers'; Id = 'SaveVmInvalidHandlers'; Script = { Register-SaveVMHandler a } }
        @{ Name = 'iterating without setup'; Id = 'SaveVmInvalidHandlers'; Script = { Register-SaveVMHandler a -SaveIterate { } -PendingEstimate { } } }
        @{ Name = 'a name that is too long'; Id = 'SaveVmInvalidName'; Script = { Register-SaveVMHandler ('x' * 256) -SaveState { } } }
    ) {
        (Get-Failure $Script).FullyQualifiedErrorId | Should -BeLike "$Id,*"
    }

    It 'registers nothing with -WhatIf' {
        Register-SaveVMHandler a -SaveState { } -WhatIf | Should -BeNullOrEmpty
        Get-SaveVMHandler | Should -BeNullOrEmpty
    }
}
