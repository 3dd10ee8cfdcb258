BeforeAll {
    . "$PSScriptRoot/Support.ps1"
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
