BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
    $example = "$repository/examples/Move-QemuVM.ps1"
}

Describe 'Move-QemuVM.ps1' {
    AfterEach {
        Stop-StartedMonitor
        Get-ChildItem -LiteralPath $TestDrive -Force | Remove-Item -Recurse -Force
    }

    It 'tests the pair and moves the VM' {
        $source = Start-Qemu
        $target = Start-Qemu -ArgumentList '-incoming', 'defer'
        $result = & $example -Monitor $source.Path -Target $target.Path -Journal "$TestDrive/move.jsonl"
        $result.Outcome, $result.RunsAt | Should -Be Completed, Target
        (Invoke-QemuMonitorCommand -Monitor $target.Path query-status).status | Should -Be running
    }

    It 'does not try what the pre-flight forbids, and does nothing with -WhatIf' {
        $source = Start-Qemu
        $target = Start-Qemu -ArgumentList '-incoming', 'defer', '-m', '128'
        { & $example -Monitor $source.Path -Target $target.Path -Journal "$TestDrive/move.jsonl" } | Should -Throw 'Not tried:*'
        & $example -Monitor $source.Path -Target $target.Path -Journal "$TestDrive/move.jsonl" -Force -WhatIf
        "$TestDrive/move.jsonl" | Should -Not -Exist
        (Invoke-QemuMonitorCommand -Monitor $target.Path query-status).status | Should -Be inmigrate
    }

    It 'says where the VM runs when the move fails' {
        $source = Start-Qemu
        $target = Start-Qemu -ArgumentList '-incoming', 'defer', '-m', '128'
        { & $example -Monitor $source.Path -Target $target.Path -Journal "$TestDrive/move.jsonl" -Force } | Should -Throw 'The VM was not moved. It runs at: Source;*'
        (Invoke-QemuMonitorCommand -Monitor $source.Path query-status).status | Should -Be running
    }
}
