BeforeAll {
    . "$PSScriptRoot/Support.ps1"
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
