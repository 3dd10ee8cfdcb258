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

Describe 'Unregister-SaveVMHandler' {
    AfterEach {
        Get-SaveVMHandler | Unregister-SaveVMHandler
    }

    It 'forgets one device, or all of a name, or what comes down the pipeline' {
        1..4 | ForEach-Object { $null = Register-SaveVMHandler a -SaveState { } }
        $null = Register-SaveVMHandler b -SaveState { }
        Unregister-SaveVMHandler a -InstanceId 2
        (Get-SaveVMHandler a).InstanceId | Should -Be 0, 1, 3
        Get-SaveVMHandler a | Where-Object InstanceId -EQ 3 | Unregister-SaveVMHandler
        (Get-SaveVMHandler a).InstanceId | Should -Be 0, 1
        Unregister-SaveVMHandler a
        (Get-SaveVMHandler).IdStr | Should -Be b
    }

    It 'forgets nothing with -WhatIf' {
        $null = Register-SaveVMHandler a -SaveState { }
        Unregister-SaveVMHandler a -WhatIf
        Get-SaveVMHandler | Should -HaveCount 1
    }

    It 'names what is not there' {
        Assert-Failure (Get-Failure { Unregister-SaveVMHandler none }) SaveVmNotRegistered ObjectNotFound "*'none'*" none
    }
}

Describe 'Get-SaveVMHandler' {
    It 'lists nothing in a session that registered nothing' {
        Get-SaveVMHandler | Should -BeNullOrEmpty
        $null = Register-SaveVMHandler a -SaveState { }
        $shell = New-Shell 'Get-SaveVMHandler'
        $shell.Invoke() | Should -BeNullOrEmpty
        $shell.Dispose()
        Unregister-SaveVMHandler a
    }

    It 'takes wildcards' {
        'acme/a', 'acme/b', 'other' | ForEach-Object { $null = Register-SaveVMHandler $_ -SaveState { } }
        (Get-SaveVMHandler acme/*).IdStr | Should -Be 'acme/a', 'acme/b'
        Get-SaveVMHandler | Unregister-SaveVMHandler
    }
}
