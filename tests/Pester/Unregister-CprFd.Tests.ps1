BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Unregister-CprFd' {
    AfterEach {
        Close-CprState
    }

    It 'closes the descriptor and forgets the entry' {
        $null = Register-CprFd m0 -MemFd unregistered -Size 4096
        Unregister-CprFd m0 | Should -BeNullOrEmpty
        Get-CprFd | Should -BeNullOrEmpty
        (Get-ChildItem /proc/self/fd).LinkTarget -match 'unregistered' | Should -BeNullOrEmpty
    }

    It 'takes the newest entry of a key' {
        $null = Register-CprFd m0 -MemFd old -Size 4096
        $null = Register-CprFd m0 -MemFd new -Size 4096 -Force
        Unregister-CprFd m0
        (Get-CprFd m0).Target | Should -Be '/memfd:old (deleted)'
    }

    It 'takes entries from the pipeline, by name and id' {
        1..3 | ForEach-Object { $null = Register-CprFd many -Id $_ -MemFd m -Size 4096 }
        Get-CprFd -Id 2 | Unregister-CprFd
        (Get-CprFd).Id | Should -Be 3, 1
        Get-CprFd | Unregister-CprFd
        Get-CprFd | Should -BeNullOrEmpty
    }

    It 'continues with the next after one that is not there' {
        $null = Register-CprFd b -MemFd m -Size 4096
        'a', 'b' | ForEach-Object { [pscustomobject]@{ Name = $_ } } | Unregister-CprFd -ErrorAction SilentlyContinue -ErrorVariable failures
        Assert-Failure $failures[0] CprEntryNotFound ObjectNotFound "'a', id 0, is not registered." a
        Get-CprFd | Should -BeNullOrEmpty
    }

    It 'keeps it with -WhatIf' {
        $null = Register-CprFd m0 -MemFd m -Size 4096
        Unregister-CprFd m0 -WhatIf
        (Get-CprFd).Name | Should -Be m0
    }
}
