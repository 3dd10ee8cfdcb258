BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    $script:vectors = "$repository/tests/MigrationOps.Engine.Tests/Vectors"
}

Describe 'Start-MigrationRelay' {
    AfterEach {
        Get-MigrationRelay | Stop-MigrationRelay
    }

    It 'listens at once and says where' {
        $relay = Start-MigrationRelay tcp:127.0.0.1:0 "unix:$TestDrive/none"
        $relay | Should -BeOfType MigrationOps.RelayedMigration
        $relay.Uri | Should -Match '^tcp:127\.0\.0\.1:[1-9]\d*$'
        $relay.LibvirtUri | Should -Match '^tcp://127\.0\.0\.1:[1-9]\d*$'
        $relay.Phase | Should -Be Listening
        $relay.IsRunning | Should -BeTrue
        $relay.Delivered, $relay.Acknowledged | Should -Be $false, $false
        $relay.Error | Should -BeNullOrEmpty
    }

    It 'has a name for libvirt on a UNIX socket' {
        $path = New-SocketPath
        (Start-MigrationRelay "unix:$path" tcp:127.0.0.1:1).LibvirtUri | Should -Be "unix://$path"
        $path | Should -Exist
    }

    It 'carries a migration and keeps an archive that other cmdlets read' {
        $target = New-SocketPath
        $receiving = Receive-MigrationStream -Uri "unix:$target" -SpoolPath "$TestDrive/spool.qevm" -AsJob
        $relay = Start-MigrationRelay "unix:$(New-SocketPath)" "unix:$target" -Archive "$TestDrive/kept"
        $null = Register-SaveVMHandler acme/nvram -SaveState { param($s) $s.WriteUInt32(7) }
        try { $null = Send-MigrationStream -Uri $relay.Uri } finally { Get-SaveVMHandler | Unregister-SaveVMHandler }
        $null = $receiving | Wait-Job -Timeout 60
        Wait-Until { -not $relay.IsRunning } 'the relay ends'
        $relay.Error | Should -BeNullOrEmpty
        $relay.Delivered | Should -BeTrue
        (Get-MigrationStream -Path "$TestDrive/kept").Sections.IdStr | Should -Contain acme/nvram
        $receiving | Remove-Job -Force
    }

    It 'touches nothing with -WhatIf' {
        $path = New-SocketPath
        Start-MigrationRelay "unix:$path" tcp:127.0.0.1:1 -WhatIf | Should -BeNullOrEmpty
        $path | Should -Not -Exist
    }

    It 'refuses a malformed fault by name: <Name>' -TestCases @(
        @{ Name = 'no kind'; Fault = @{ After = 'Shut' } }
        @{ Name = 'an unknown kind'; Fault = @{ Kind = 'Explode'; After = 'Shut' } }
        @{ Name = 'no element'; Fault = @{ Kind = 'Break' } }
        @{ Name = 'two places'; Fault = @{ Kind = 'Break'; After = 'Shut'; Before = 'Shut' } }
        @{ Name = 'an unknown element'; Fault = @{ Kind = 'Break'; After = 'Lunch' } }
        @{ Name = 'an unknown word'; Fault = @{ Kind = 'Break'; After = 'Shut'; Colour = 'red' } }
        @{ Name = 'damage after an element'; Fault = @{ Kind = 'Damage'; After = 'Shut' } }
        @{ Name = 'a delay of no time'; Fault = @{ Kind = 'Delay'; After = 'Shut' } }
        @{ Name = 'a number of zero'; Fault = @{ Kind = 'Break'; After = 'Packet'; Number = 0 } }
    ) {
        $path = New-SocketPath
        $failure = Get-Failure { Start-MigrationRelay "unix:$path" tcp:127.0.0.1:1 -Fault $Fault }
        Assert-Failure $failure RelayInvalidFault InvalidArgument '*fault of the relay is malformed*Expected*' "unix:$path"
        $path | Should -Not -Exist
    }

    It 'needs TLS or a word of consent on a network' {
        Assert-Failure (Get-Failure { Start-MigrationRelay tcp:0.0.0.0:0 tcp:127.0.0.1:1 }) WirePlaintextRefused SecurityError '*in the clear*' 'tcp:0.0.0.0:0'
    }

    It 'relays sockets only' {
        Assert-Failure (Get-Failure { Start-MigrationRelay "file:$TestDrive/x" tcp:127.0.0.1:1 }) WireUnsupportedEndpoint NotImplemented '*connects sockets*' "file:$TestDrive/x"
    }

    It 'does not write over an archive' {
        $null = New-Item -ItemType Directory "$TestDrive/full"
        Set-Content -LiteralPath "$TestDrive/full/x" -Value 1
        (Get-Failure { Start-MigrationRelay "unix:$(New-SocketPath)" tcp:127.0.0.1:1 -Archive "$TestDrive/full" }).FullyQualifiedErrorId | Should -BeLike 'MultifdArchiveExists*'
    }

    It 'ends with its runspace and removes its socket' {
        $path = New-SocketPath
        $shell = [powershell]::Create().AddScript("Import-Module '$manifestPath'; Start-MigrationRelay 'unix:$path' tcp:127.0.0.1:1")
        $relay = $shell.Invoke()[0]
        $path | Should -Exist
        $shell.Runspace.Dispose()
        Wait-Until { -not $relay.IsRunning } 'the relay ends with its runspace'
        $path | Should -Not -Exist
        $shell.Dispose()
    }
}
