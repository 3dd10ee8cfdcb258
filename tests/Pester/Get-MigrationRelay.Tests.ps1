BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Get-MigrationRelay' {
    AfterEach {
        Get-MigrationRelay | Stop-MigrationRelay
    }

    It 'lists those of this session, by address or all' {
        Get-MigrationRelay | Should -BeNullOrEmpty
        $path = New-SocketPath
        $first = Start-MigrationRelay tcp:127.0.0.1:0 tcp:127.0.0.1:1
        $second = Start-MigrationRelay "unix:$path" tcp:127.0.0.1:1
        (Get-MigrationRelay).Uri | Sort-Object | Should -Be ($first.Uri, $second.Uri | Sort-Object)
        (Get-MigrationRelay 'unix:*').Uri | Should -Be $second.Uri
        (Get-MigrationRelay $first.Uri).Uri | Should -Be $first.Uri
    }

    It 'says that there is none at an address without wildcards' {
        Assert-Failure (Get-Failure { Get-MigrationRelay unix:/none }) MigrationRelayNotFound ObjectNotFound '*runs no relay*' 'unix:/none'
        Get-MigrationRelay 'unix:/none*' | Should -BeNullOrEmpty
    }
}
