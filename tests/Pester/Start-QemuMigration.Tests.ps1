BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
}

Describe 'Start-QemuMigration' {
    AfterEach {
        Stop-StartedMonitor
        Get-ChildItem -LiteralPath $TestDrive -Force | Remove-Item -Recurse -Force
    }

    It 'moves a VM, ends the source, and says what shows it' {
        $source = Start-Qemu
        $target = Start-Qemu -ArgumentList '-incoming', 'defer'
        $result = Start-QemuMigration $source.Path $target.Path -Journal "$TestDrive/move.jsonl"
        $result | Should -BeOfType MigrationOps.QemuMigrationResult
        $result.Outcome, $result.RunsAt, $result.VM, $result.SafeAction | Should -Be Completed, Target, web01, None
        $result.DowntimeParts.Name | Should -Be Transfer, Confirm, Journal, Start
        $source.Process.WaitForExit(60000) | Should -BeTrue
        (Invoke-QemuMonitorCommand -Monitor $target.Path query-status).status | Should -Be running
        (Get-Content -LiteralPath "$TestDrive/move.jsonl" | ConvertFrom-Json).record | Should -Contain 'commit'
    }

    It 'uses monitors that are connected, keeps the source when asked, and can do it as a job' {
        $source = Connect-Monitor (Start-Qemu).Path
        $target = Connect-Monitor (Start-Qemu -ArgumentList '-incoming', 'defer').Path
        $job = Start-QemuMigration $source $target -KeepSource -Journal "$TestDrive/move.jsonl" -AsJob
        $result = $job | Wait-Job | Receive-Job -Wait
        $result.RunsAt | Should -Be Target
        ($source | Invoke-QemuMonitorCommand query-status).status | Should -Be postmigrate
        ($target | Invoke-QemuMonitorCommand query-status).status | Should -Be running
        $job | Remove-Job
    }

    It 'leaves the VM at the source when the target refuses it, and names the section' {
        $source = Start-Qemu
        $target = Start-Qemu -ArgumentList '-incoming', 'defer', '-m', '128'
        $result = Start-QemuMigration $source.Path $target.Path -Journal "$TestDrive/move.jsonl" -ErrorVariable problem -ErrorAction SilentlyContinue
        $result.Outcome, $result.RunsAt | Should -Be Failed, Source
        $problem[0].FullyQualifiedErrorId | Should -BeLike 'Move*,MigrationOps.PowerShell.Commands.StartQemuMigration'
        $problem[0].TargetObject.RunsAt | Should -Be Source
        $problem[0].Exception.Message | Should -BeLike '*runs at the source*'
        (Invoke-QemuMonitorCommand -Monitor $source.Path query-status).status | Should -Be running
    }

    It 'refuses a target that does not wait for a migration, and a network in the clear' {
        $source = Start-Qemu
        $other = Start-Qemu
        (Get-Failure { Start-QemuMigration $source.Path $other.Path }).FullyQualifiedErrorId | Should -BeLike 'MoveTargetState,*'
        (Get-Failure { Start-QemuMigration $source.Path $other.Path -Uri tcp:192.0.2.1:0 }).FullyQualifiedErrorId | Should -BeLike 'WirePlaintextRefused,*'
    }

    It 'does nothing with -WhatIf' {
        $scripted = Start-Monitor
        Start-QemuMigration $scripted.Path $scripted.Path -WhatIf
        Get-ReceivedCommand $scripted | Should -BeNullOrEmpty
    }
}
