BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/Handlers.ps1"
}

Describe 'Receive-MigrationStream' {
    BeforeEach {
        $file = "$TestDrive/$([Guid]::NewGuid()).stream"
        $null = Register-SaveVMHandler acme/nvram -SaveState { param($Stream) $Stream.WriteUInt32(5) } -LoadState { param($Stream) $null = $Stream.ReadUInt16() }
        $null = Send-MigrationStream file:$file
    }

    AfterEach {
        Get-SaveVMHandler | Unregister-SaveVMHandler
    }

    It 'loads nothing and makes no file with -WhatIf' {
        Receive-MigrationStream file:$file -SpoolPath "$TestDrive/what-if.stream" -WhatIf | Should -BeNullOrEmpty
        "$TestDrive/what-if.stream" | Should -Not -Exist
    }

    It 'names a handler that reads too little, and the byte' {
        $failure = Get-Failure { Receive-MigrationStream file:$file }
        $failure.FullyQualifiedErrorId | Should -BeLike 'StreamFooterMismatch,*'
        $failure.Exception.Section | Should -BeLike '*(acme/nvram)'
        $failure.Exception.ByteOffset | Should -BeGreaterThan 20
    }

    It 'says that nothing was loaded where the stream carries nothing' {
        Get-SaveVMHandler | Unregister-SaveVMHandler
        $null = Send-MigrationStream "file:$TestDrive/empty.stream" -WarningAction Ignore
        $received = Receive-MigrationStream "file:$TestDrive/empty.stream" -WarningAction Ignore
        $received.Sections | Should -Be 0
        $received.Warnings | Should -BeLike '*nothing was loaded*'
    }

    It 'names a section without a registered handler' {
        Get-SaveVMHandler | Unregister-SaveVMHandler
        (Get-Failure { Receive-MigrationStream file:$file }).FullyQualifiedErrorId | Should -BeLike 'SaveVmUnknownSection,*'
    }

    It 'keeps unregistered sections in a file that loads later' {
        Get-SaveVMHandler | Unregister-SaveVMHandler
        $kept = "$TestDrive/kept.stream"
        $received = Receive-MigrationStream file:$file -SpoolPath $kept
        $received.Spooled | Should -Be 'acme/nvram'
        (Get-MigrationStream $kept).Sections.IdStr | Should -Be 'acme/nvram'
        $loaded = @{}
        $null = Register-SaveVMHandler acme/nvram -LoadState { param($Stream) $loaded.Value = $Stream.ReadUInt32() }
        (Receive-MigrationStream file:$kept).Spooled | Should -BeNullOrEmpty
        $loaded.Value | Should -Be 5
    }

    It 'leaves no file of a stream without a description, and names its byte' {
        Get-SaveVMHandler | Unregister-SaveVMHandler
        $null = Register-SaveVMHandler acme/nvram -SaveState { param($Stream) $Stream.WriteUInt32(5) }
        $null = Send-MigrationStream file:$file -NoDescription
        Get-SaveVMHandler | Unregister-SaveVMHandler
        $failure = Get-Failure { Receive-MigrationStream file:$file -SpoolPath "$TestDrive/none.stream" }
        $failure.FullyQualifiedErrorId | Should -BeLike 'StreamTruncated,*'
        $failure.Exception.ByteOffset | Should -BeGreaterThan 20
        "$TestDrive/none.stream" | Should -Not -Exist
        Get-Leftover | Should -Not -BeLike '*.part'
    }

    It 'refuses another machine type' {
        (Get-Failure { Receive-MigrationStream file:$file -MachineType pc-q35-10.0 }).FullyQualifiedErrorId | Should -BeLike 'SaveVmConfigurationMismatch,*'
    }

    It 'refuses a source without the return path that -ReturnPath requires, and takes one with it' {
        Get-SaveVMHandler | Unregister-SaveVMHandler
        $null = Register-SaveVMHandler acme/state ([PesterNvram]::new())
        $socket = New-SocketPath
        $job = Receive-MigrationStream unix:$socket -AsJob -ReturnPath
        Wait-Until { Test-Path $socket } 'the target listens'
        # Without the return path the source may have handed everything over before the target hangs up.
        try { (Send-MigrationStream unix:$socket).Confirmed | Should -BeFalse } catch { $_.FullyQualifiedErrorId | Should -Match '^(SaveVm|Wire)' }
        (Get-Failure { $job | Receive-Job -Wait -ErrorAction Stop }).FullyQualifiedErrorId | Should -Be 'SaveVmReturnPathMissing'
        Remove-Job $job -Force
        $job = Receive-MigrationStream unix:$socket -AsJob -ReturnPath
        Wait-Until { Test-Path $socket } 'the target listens'
        (Send-MigrationStream unix:$socket -ReturnPath).Confirmed | Should -BeTrue
        ($job | Wait-Job | Receive-Job -Wait -AutoRemoveJob).Confirmed | Should -BeTrue
        (Get-Failure { Receive-MigrationStream file:$file -ReturnPath }).FullyQualifiedErrorId | Should -BeLike 'SaveVmInvalidOption,*'
    }

    It 'counts the acknowledgements as told, and takes -SwitchoverAckCount only with -SwitchoverAck' {
        Get-SaveVMHandler | Unregister-SaveVMHandler
        $null = Register-SaveVMHandler acme/state ([PesterNvram]::new())
        $socket = New-SocketPath
        $job = Receive-MigrationStream unix:$socket -AsJob -SwitchoverAck -SwitchoverAckCount PerDevice
        Wait-Until { Test-Path $socket } 'the target listens'
        (Send-MigrationStream unix:$socket -SwitchoverAck -SwitchoverAckCount PerDevice).SwitchoverAcknowledged | Should -BeFalse
        ($job | Wait-Job | Receive-Job -Wait -AutoRemoveJob).SwitchoverAcknowledged | Should -BeFalse
        foreach ($script in { Send-MigrationStream file:$file -SwitchoverAckCount Once }, { Receive-MigrationStream file:$file -SwitchoverAckCount Once }) {
            (Get-Failure $script).FullyQualifiedErrorId | Should -BeLike 'SaveVmInvalidOption,*'
        }
    }

    It 'refuses -SwitchoverAck from a file, and a file that does not exist' {
        (Get-Failure { Receive-MigrationStream file:$file -SwitchoverAck }).FullyQualifiedErrorId | Should -BeLike 'SaveVmInvalidOption,*'
        (Get-Failure { Receive-MigrationStream file:$TestDrive/none }).CategoryInfo.Category | Should -Be ObjectNotFound
    }

    It 'refuses multifd channels of a file, and says how many connections came in time' {
        (Get-Failure { Receive-MigrationStream file:$file -MultifdChannels 1 }).FullyQualifiedErrorId | Should -BeLike 'WireUnsupportedEndpoint,*'
        $socket = New-SocketPath
        $shell = New-Shell -Parameters @{ Socket = $socket } -Script 'Receive-MigrationStream unix:$($p.Socket) -MultifdChannels 2 -Timeout 1'
        $running = $shell.BeginInvoke()
        Wait-Until { (Test-Path $socket) -or $running.IsCompleted } 'the target listens'
        $connection = [Net.Sockets.Socket]::new('Unix', 'Stream', 'Unspecified')
        $connection.Connect([Net.Sockets.UnixDomainSocketEndPoint]::new($socket))
        { $shell.EndInvoke($running) } | Should -Throw -ExpectedMessage '*1 of 3 connections came*'
        $connection.Dispose()
        $shell.Dispose()
    }

    It 'ends with the deadline when no source comes' {
        (Get-Failure { Receive-MigrationStream unix:$(New-SocketPath) -Timeout 0.2 }).CategoryInfo.Category | Should -Be OperationTimeout
    }
}
