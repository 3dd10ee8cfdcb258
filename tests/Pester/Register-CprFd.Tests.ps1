BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Register-CprFd' {
    AfterEach {
        Close-CprState
    }

    It 'makes memory of a size, with a name that /proc shows' {
        $entry = Register-CprFd -Name m0 -MemFd guest -Size 2MB
        $entry.Kind | Should -Be MemFd
        $entry.Size | Should -Be 2MB
        $entry.Target | Should -Be '/memfd:guest (deleted)'
        (Get-Item "/proc/self/fd/$($entry.Fd)").LinkTarget | Should -Be $entry.Target
    }

    It 'opens a path for <Access>' -ForEach @{ Access = 'Read' }, @{ Access = 'Write' }, @{ Access = 'ReadWrite' } {
        Set-Content -LiteralPath "$TestDrive/file" -Value 'text' -NoNewline
        $entry = Register-CprFd -Name f -Path "$TestDrive/file" -Access $Access
        $entry.Access | Should -Be $Access
        $entry.Kind | Should -Be File
        $entry.Size | Should -Be 4
        $entry.Target | Should -Be "$TestDrive/file"
    }

    It 'opens a path relative to the current location, and files from the pipeline' {
        Set-Content -LiteralPath "$TestDrive/file" -Value 'text'
        Push-Location $TestDrive
        try { (Register-CprFd -Name r -Path file).Target | Should -Be "$TestDrive/file" } finally { Pop-Location }
    }

    It 'duplicates a descriptor of this process and keeps it when the original is closed' {
        $file = [IO.File]::Create("$TestDrive/own")
        $entry = Register-CprFd -Name own -Id -7 -Fd $file.SafeFileHandle.DangerousGetHandle()
        $file.Dispose()
        $entry.Fd | Should -Not -Be $file.SafeFileHandle.DangerousGetHandle()
        (Get-CprFd own).Target | Should -Be "$TestDrive/own"
    }

    It 'does not let programs that are started inherit it' {
        $entry = Register-CprFd -Name m0 -MemFd not-inherited -Size 4096
        & /bin/sh -c 'ls -l /proc/self/fd' | Should -Not -Match 'not-inherited'
    }

    It 'does not wait for the other end of a FIFO' {
        & mkfifo "$TestDrive/fifo"
        (Register-CprFd -Name fifo -Path "$TestDrive/fifo" -Access Read).Kind | Should -Be Pipe
    }

    It 'refuses a key that is there, unless -Force says to put a newer one before it' {
        $null = Register-CprFd m0 -MemFd old -Size 4096
        Assert-Failure (Get-Failure { Register-CprFd m0 -MemFd new -Size 4096 }) CprDuplicateEntry ProtocolError "'m0', id 0, is registered already." m0
        $null = Register-CprFd m0 -MemFd new -Size 4096 -Force
        (Get-CprFd).Target | Should -Be '/memfd:new (deleted)', '/memfd:old (deleted)'
        $null = Register-CprFd m0 -Id 1 -MemFd other -Size 4096
    }

    It 'takes a name that is not text, and shows it as it was written' {
        (Register-CprFd -Name 'a\xffb\\c' -MemFd m -Size 1).Name | Should -BeExactly 'a\xffb\\c'
    }

    It 'refuses <What>' -ForEach @(
        @{ What = 'a name of 4,097 bytes'; Name = 'n' * 4097; Id = 'CprNameTooLong'; Category = 'LimitsExceeded' }
        @{ What = 'a broken escape'; Name = 'a\q'; Id = 'CprInvalidName'; Category = 'ProtocolError' }
        @{ What = 'a NUL'; Name = 'a\x00'; Id = 'CprInvalidName'; Category = 'ProtocolError' }
    ) {
        Assert-Failure (Get-Failure { Register-CprFd -Name $Name -MemFd m -Size 1 }) $Id $Category '*name*' $Name
        Get-CprFd | Should -BeNullOrEmpty
    }

    It 'refuses a number that is not open' {
        Assert-Failure (Get-Failure { Register-CprFd bad -Fd 99999 }) CprDescriptorClosed InvalidOperation '*no open descriptor 99999.' 99999
    }

    It 'refuses a path that is not there' {
        Assert-Failure (Get-Failure { Register-CprFd bad -Path "$TestDrive/none" }) WireNotFound ObjectNotFound "*$TestDrive/none*" "$TestDrive/none"
    }

    It 'opens and registers nothing with -WhatIf' {
        Register-CprFd m0 -MemFd what-if -Size 4096 -WhatIf
        Get-CprFd | Should -BeNullOrEmpty
        (Get-ChildItem /proc/self/fd).LinkTarget -match 'what-if' | Should -BeNullOrEmpty
    }

    It 'says so when the limit of open files is reached and cannot be raised' {
        $script = "Import-Module '$manifestPath'; for (`$i = 0; `$i -lt 600; `$i++) { `$null = Register-CprFd e -Id `$i -Fd 0 -ErrorVariable e -ErrorAction SilentlyContinue; if (`$e) { break } }; `$e[0].FullyQualifiedErrorId; `$i"
        $found = & /bin/sh -c 'ulimit -n 512; exec pwsh -NoProfile -Command "$0"' $script
        # Who may raise the hard limit does not run into it.
        if ($found[-1] -ne 600) { $found[0] | Should -BeLike 'CprDescriptorLimit,*' }
    }
}
