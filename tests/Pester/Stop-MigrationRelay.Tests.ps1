BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Stop-MigrationRelay' {
    AfterEach {
        Get-MigrationRelay | Stop-MigrationRelay
    }

    It 'stops relays from the pipeline and removes their sockets' {
        $paths = 1..3 | ForEach-Object { New-SocketPath }
        $relays = $paths | ForEach-Object { Start-MigrationRelay "unix:$_" tcp:127.0.0.1:1 }
        $relays | Stop-MigrationRelay | Should -BeNullOrEmpty
        $relays.IsRunning | Should -Be $false, $false, $false
        $paths | Should -Not -Exist
        Get-MigrationRelay | Should -BeNullOrEmpty
    }

    It 'stops one by its address, and twice does nothing' {
        $relay = Start-MigrationRelay tcp:127.0.0.1:0 tcp:127.0.0.1:1
        Stop-MigrationRelay -Uri $relay.Uri
        $relay | Stop-MigrationRelay
        $relay.IsRunning | Should -BeFalse
    }

    It 'leaves it running with -WhatIf' {
        $relay = Start-MigrationRelay tcp:127.0.0.1:0 tcp:127.0.0.1:1
        $relay | Stop-MigrationRelay -WhatIf
        $relay.IsRunning | Should -BeTrue
    }

    It 'says that there is none at an address' {
        Assert-Failure (Get-Failure { Stop-MigrationRelay -Uri unix:/none }) MigrationRelayNotFound ObjectNotFound '*runs no relay*' 'unix:/none'
    }
}
