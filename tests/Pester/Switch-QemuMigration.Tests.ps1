BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
}

Describe 'Switch-QemuMigration' {
    AfterEach {
        Stop-StartedMonitor
    }

    It 'starts postcopy' {
        $scripted = Start-Monitor @{ 'query-migrate' = '{"status": "postcopy-active"}'; 'query-status' = '{"status": "postmigrate", "running": false}'; 'migrate-start-postcopy' = '{}' }
        $verdict = Switch-QemuMigration $scripted.Path -ToPostcopy
        Get-ReceivedCommand $scripted | Should -Contain migrate-start-postcopy
        $verdict.SourceState | Should -Be Postcopy
    }

    It 'passes on why QEMU refuses' {
        $source = Start-Qemu
        (Get-Failure { Switch-QemuMigration $source.Path -ToPostcopy }).FullyQualifiedErrorId | Should -BeLike 'QmpCommandFailed,*'
    }

    It 'does nothing with -WhatIf' {
        $scripted = Start-Monitor
        Switch-QemuMigration $scripted.Path -ToPostcopy -WhatIf
        Get-ReceivedCommand $scripted | Should -BeNullOrEmpty
    }
}
