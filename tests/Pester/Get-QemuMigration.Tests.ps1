BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
}

Describe 'Get-QemuMigration' {
    AfterEach {
        Stop-StartedMonitor
    }

    It 'gives every member with a unit and a type' {
        $scripted = Start-Monitor @{ 'query-migrate' = '{"status": "active", "total-time": 1500, "expected-downtime": 300, "setup-time": 5, "cpu-throttle-percentage": 20, "remaining": 77, "vfio": {"transferred": 9},
            "ram": {"transferred": 100, "remaining": 200, "total": 1000, "duplicate": 1, "normal": 2, "normal-bytes": 8192, "dirty-pages-rate": 10, "mbps": 8, "dirty-sync-count": 3, "page-size": 4096, "multifd-bytes": 7,
            "pages-per-second": 6, "precopy-bytes": 5, "downtime-bytes": 4, "postcopy-bytes": 3, "postcopy-requests": 2, "dirty-sync-missed-zero-copy": 1, "new-thing": 5}, "newer": {"a": 1}}' }
        $status = Get-QemuMigration -Monitor $scripted.Path
        $status | Should -BeOfType MigrationOps.QemuMigrationStatus
        $status.VM, $status.Status, $status.Phase, $status.RunState, $status.Pass | Should -Be web01, active, Copying, running, 3
        $status.RemainingBytes, $status.TotalRemainingBytes, $status.TransferredBytes, $status.TotalBytes | Should -Be 200, 77, 100, 1000
        $status.DirtyBytesPerSecond, $status.BytesPerSecond, $status.VfioBytes, $status.MultifdBytes | Should -Be 40960, 1000000, 9, 7
        $status.TotalTime, $status.ExpectedDowntime, $status.SetupTime | Should -Be ([timespan]'00:00:01.5'), ([timespan]'00:00:00.3'), ([timespan]'00:00:00.005')
        $status.ThrottlePercent | Should -Be 20
        $status.Downtime | Should -BeNullOrEmpty
        $status.OtherMembers | Should -Be 'newer = {"a":1}', 'ram.new-thing = 5'
        $status.HasEnded | Should -BeFalse
        Get-ReceivedCommand $scripted | Should -Not -Contain stop
    }

    It 'gives the phase <Phase> for <Answer>' -ForEach @(
        @{ Answer = '{}'; Phase = 'None' }
        @{ Answer = '{"status": "pre-switchover"}'; Phase = 'Held' }
        @{ Answer = '{"status": "device"}'; Phase = 'Switching' }
        @{ Answer = '{"status": "postcopy-paused"}'; Phase = 'PostcopyPaused' }
        @{ Answer = '{"status": "postcopy-recover-setup"}'; Phase = 'Recovering' }
        @{ Answer = '{"status": "failing"}'; Phase = 'Failing' }
        @{ Answer = '{"status": "something-new"}'; Phase = 'Unknown' }
        @{ Answer = '{"status": "failed", "error-desc": "it is so"}'; Phase = 'Failed' }
        @{ Answer = '{"status": 5, "ram": [], "total-time": "x", "downtime": 9223372036854775807}'; Phase = 'None' }
    ) {
        (Get-QemuMigration -Monitor (Start-Monitor @{ 'query-migrate' = $Answer }).Path).Phase | Should -Be $Phase
    }

    It 'watches a migration to its end' {
        $scripted = Start-Monitor @{ 'query-migrate' = '{"status": "active", "ram": {"dirty-sync-count": 1, "remaining": 5, "total": 10}}' }
        $shell = New-Shell 'Get-QemuMigration -Monitor $p.Path -Watch' @{ Path = $scripted.Path }
        $running = $shell.BeginInvoke()
        Wait-Until { @((Get-ReceivedCommand $scripted) -eq 'query-migrate').Count -ge 3 } 'three samples'
        $scripted.Answers['query-migrate'] = '{"status": "completed", "downtime": 12}'
        $samples = $shell.EndInvoke($running)
        $shell.Dispose()
        $samples.Count | Should -BeGreaterOrEqual 3
        $samples[0].Phase, $samples[-1].Phase, $samples[-1].Downtime | Should -Be Copying, Completed, ([timespan]'00:00:00.012')
    }

    It 'takes at most five samples a second, however many events there are' {
        $scripted = Start-Monitor @{ 'query-migrate' = '{"status": "active"}' }
        $shell = New-Shell 'Get-QemuMigration -Monitor $p.Path -Watch' @{ Path = $scripted.Path }
        $running = $shell.BeginInvoke()
        Wait-Until { (Get-ReceivedCommand $scripted) -contains 'query-migrate' } 'the first sample'
        $clock = [Diagnostics.Stopwatch]::StartNew()
        while ($clock.Elapsed.TotalSeconds -lt 1) { Send-MonitorEvent $scripted MIGRATION_PASS '{"pass": 2}' }
        $count = @((Get-ReceivedCommand $scripted) -eq 'query-migrate').Count
        $seconds = $clock.Elapsed.TotalSeconds
        $shell.Stop()
        $shell.Dispose()
        $count | Should -BeLessOrEqual (5 * $seconds + 3)
    }

    It 'watches several at once, and one that fails does not end the others' {
        $good = Start-Monitor @{ 'query-migrate' = '{"status": "completed"}' }
        $samples = "$TestDrive/none.sock", $good.Path | Get-QemuMigration -Watch -ErrorAction SilentlyContinue -ErrorVariable failures
        $samples.Status | Should -Be completed
        $failures.Count | Should -Be 1
    }

    It 'waits for a migration for as long as -Timeout' {
        (Get-QemuMigration -Monitor (Start-Monitor).Path -Watch -Timeout 0.5).Phase | Should -Be None
    }
}
