BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Get-CprFd' {
    AfterEach {
        Close-CprState
    }

    It 'gives nothing when nothing is registered' {
        Get-CprFd | Should -BeNullOrEmpty
    }

    It 'gives the newest first, and what matches' {
        'pc.ram', 'vga.vram', 'tap0' | ForEach-Object { $null = Register-CprFd $_ -MemFd m -Size 4096 }
        (Get-CprFd).Name | Should -Be tap0, vga.vram, pc.ram
        (Get-CprFd '*ram').Name | Should -Be vga.vram, pc.ram
        (Get-CprFd tap0).Name | Should -Be tap0
        Get-CprFd 'x*' | Should -BeNullOrEmpty
    }

    It 'finds a name with wildcard characters in it as it is' {
        $null = Register-CprFd 'a[1]' -MemFd m -Size 4096
        (Get-CprFd 'a[1]').Name | Should -Be 'a[1]'
    }

    It 'tells what each descriptor is' {
        $null = Register-CprFd memory -MemFd m -Size 12345
        $null = Register-CprFd device -Path /dev/null -Access Write
        $null = Register-CprFd directory -Path $TestDrive -Access Read
        $entries = Get-CprFd
        $entries.Kind | Should -Be Directory, CharacterDevice, MemFd
        $entries.Size | Should -Be 0, 0, 12345
        $entries.Access | Should -Be Read, Write, ReadWrite
        $entries[0].Target | Should -Be $TestDrive
        $entries.Received | Should -Not -Contain $true
        [long](& stat -L -c %i /dev/null) | Should -Be $entries[1].Inode
    }

    It 'does not know a name that is not registered' {
        Assert-Failure (Get-Failure { Get-CprFd none }) CprEntryNotFound ObjectNotFound "'none' is not registered." none
        Assert-Failure (Get-Failure { Get-CprFd none -Id 2 }) CprEntryNotFound ObjectNotFound "'none', id 2, is not registered." none
    }

    It 'reports an entry whose descriptor was closed by something else, and shows the others' {
        $null = Register-CprFd good -MemFd m -Size 4096
        $victim = Register-CprFd victim -MemFd m -Size 4096
        [Microsoft.Win32.SafeHandles.SafeFileHandle]::new($victim.Fd, $true).Dispose()
        (Get-CprFd -ErrorAction SilentlyContinue -ErrorVariable failures).Name | Should -Be good
        Assert-Failure $failures[0] CprDescriptorClosed InvalidOperation "Entry 'victim', id 0: its descriptor*" victim
    }

    It 'shows the registry of its own runspace only' {
        $null = Register-CprFd m0 -MemFd m -Size 4096
        $shell = New-Shell 'Get-CprFd; Register-CprFd other -MemFd m -Size 4096'
        try { $shell.Invoke().Name | Should -Be other } finally { $shell.Runspace.Dispose(); $shell.Dispose() }
        (Get-CprFd).Name | Should -Be m0
    }

    It 'comes back unharmed from a trip through serialization, as remoting makes it' {
        $null = Register-CprFd m0 -Id 3 -MemFd m -Size 4096
        $copy = [Management.Automation.PSSerializer]::Deserialize([Management.Automation.PSSerializer]::Serialize((Get-CprFd)))
        $copy.Name, $copy.Id, $copy.Size, "$($copy.Kind)" | Should -Be m0, 3, 4096, MemFd
        $copy | Unregister-CprFd
        Get-CprFd | Should -BeNullOrEmpty
    }
}
