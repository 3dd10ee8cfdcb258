BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
}

Describe 'Stop-QemuMigration' {
    AfterEach {
        Stop-StartedMonitor
    }

    It 'cancels a migration and says that the source runs' {
        $source = Start-Qemu
        $null = Invoke-QemuMonitorCommand -Monitor $source.Path migrate-set-parameters @{ 'max-bandwidth' = 10000 } -Confirm:$false
        $null = Invoke-QemuMonitorCommand -Monitor $source.Path migrate @{ uri = 'exec:cat >/dev/null' } -Confirm:$false
        $verdict = Stop-QemuMigration $source.Path
        $verdict.RunsAt, $verdict.SafeAction | Should -Be Source, None
        (Get-QemuMigration -Monitor $source.Path).Phase | Should -Be Cancelled
    }

    It 'refuses in postcopy' {
        $scripted = Start-Monitor @{ 'query-migrate' = '{"status": "postcopy-active"}'; 'query-status' = '{"status": "finish-migrate", "running": false}' }
        (Get-Failure { Stop-QemuMigration $scripted.Path }).FullyQualifiedErrorId | Should -BeLike 'MoveInPostcopy,*'
        Get-ReceivedCommand $scripted | Should -Not -Contain migrate_cancel
    }

    It 'does not cancel a source that waits for the last word of a target that may start by itself' {
        $scripted = Start-Monitor @{ 'query-migrate' = '{"status": "device"}'; 'query-status' = '{"status": "finish-migrate", "running": false}' }
        (Get-Failure { Stop-QemuMigration $scripted.Path }).FullyQualifiedErrorId | Should -BeLike 'MoveInSwitchover,*'
        Get-ReceivedCommand $scripted | Should -Not -Contain migrate_cancel
    }

    It 'does nothing with -WhatIf' {
        $scripted = Start-Monitor
        Stop-QemuMigration $scripted.Path -WhatIf
        Get-ReceivedCommand $scripted | Should -BeNullOrEmpty
    }
}
