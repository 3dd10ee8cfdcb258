BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"

    # A journal as a controller leaves it that was killed after its last line.
    function New-Journal([string[]] $Line) {
        $side = { param($Monitor) @{ monitor = $Monitor; pid = 0; version = '10.0.2' } }
        $intent = @{ record = 'intent'; at = '2026-11-27T12:00:00Z'; intent = @{ move = [guid]::NewGuid(); vm = 'web09'; mode = 'normal'; source = & $side $source.Uri; target = & $side $target.Uri } }
        $path = "$TestDrive/$([guid]::NewGuid()).jsonl"
        @($intent | ConvertTo-Json -Compress -Depth 5) + @($Line | ForEach-Object { "{`"record`":`"$_`",`"at`":`"2026-11-27T12:00:01Z`"}" }) | Set-Content -LiteralPath $path
        $path
    }

    $sent = @{ 'query-status' = '{"status": "postmigrate", "running": false}'; 'query-migrate' = '{"status": "completed"}'; 'query-uuid' = '{"UUID": "00000000-0000-0000-0000-000000000000"}'; quit = '{}' }
    $loaded = $sent + @{}
    $loaded['query-status'] = '{"status": "paused", "running": false}'
    $running = $sent + @{}
    $running['query-status'] = '{"status": "running", "running": true}'
}

Describe 'Resolve-QemuMigration' {
    AfterEach {
        Stop-StartedMonitor
        Get-ChildItem -LiteralPath $TestDrive -Force | Remove-Item -Recurse -Force
    }

    It 'lets the target go that has everything' {
        $source, $target = (Start-Monitor $sent), (Start-Monitor $loaded)
        $verdict = Resolve-QemuMigration (New-Journal 'armed')
        $verdict.RunsAt, $verdict.SafeAction, $verdict.VM | Should -Be Nowhere, ContinueTarget, web09
        $verdict.Evidence | Should -Contain "target $($target.Uri): paused, migration completed"
    }

    It 'sees two running VMs, and touches neither' {
        $source, $target = (Start-Monitor $running), (Start-Monitor $running)
        $verdict = Resolve-QemuMigration -Source $source.Path -Target $target.Path
        $verdict.RunsAt, $verdict.SafeAction | Should -Be Both, Decide
        (Get-Failure { Resolve-QemuMigration -Source $source.Path -Target $target.Path -Repair -Confirm:$false }).FullyQualifiedErrorId | Should -BeLike 'MoveNotRepairable,*'
        foreach ($side in $source, $target) { Get-ReceivedCommand $side | Should -Not -Contain stop; Get-ReceivedCommand $side | Should -Not -Contain quit }
    }

    It 'never starts the source once the commit may have been written' {
        $source, $target = (Start-Monitor $sent), (Start-Monitor $loaded)
        $journal = New-Journal 'armed', 'completed', 'commit'
        $target.Server.DisposeAsync().AsTask().Wait()
        $verdict = Resolve-QemuMigration $journal
        $verdict.RunsAt, $verdict.SafeAction | Should -Be Unknown, ReachTarget
        $null = Get-Failure { Resolve-QemuMigration $journal -Repair -Confirm:$false }
        (Resolve-QemuMigration $journal -Assume TargetDead -Confirm:$false).SafeAction | Should -Be StartFromDisk
        Get-ReceivedCommand $source | Should -Not -Contain cont
        $verdict = Resolve-QemuMigration $journal -Assume TargetDead, TargetNeverRan -Confirm:$false
        $verdict.SafeAction | Should -Be ContinueSource
    }

    It 'refuses an assumption that the evidence contradicts' {
        $source, $target = (Start-Monitor $sent), (Start-Monitor $loaded)
        (Get-Failure { Resolve-QemuMigration (New-Journal 'armed') -Assume TargetDead -Confirm:$false }).FullyQualifiedErrorId | Should -BeLike 'MoveNotRepairable,*'
    }

    It 'says what is no journal' {
        Set-Content -LiteralPath "$TestDrive/x.jsonl" -Value 'hello'
        (Get-Failure { Resolve-QemuMigration "$TestDrive/x.jsonl" }).FullyQualifiedErrorId | Should -BeLike 'MoveJournalInvalid,*'
    }

    It 'repairs nothing with -WhatIf' {
        $source, $target = (Start-Monitor $sent), (Start-Monitor $loaded)
        Resolve-QemuMigration (New-Journal 'armed') -Repair -WhatIf
        Get-ReceivedCommand $target | Should -BeNullOrEmpty
    }
}
