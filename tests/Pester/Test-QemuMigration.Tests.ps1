BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"

    # What a scripted QEMU answers beside what a running VM does; the rest it does not know, which is a finding too.
    $schema = '[' + (@('query-uuid', 'qom-list').ForEach({ "{`"name`": `"$_`", `"meta-type`": `"command`", `"arg-type`": `"0`", `"ret-type`": `"0`"}" }) -join ',') + ']'
    $script:source = @{ 'query-qmp-schema' = $schema; 'query-uuid' = '{"UUID": "11112222-3333-4444-5555-666677778888"}' }
    $script:waiting = @{ 'query-qmp-schema' = $schema; 'query-uuid' = '{"UUID": "00000000-0000-0000-0000-000000000000"}'; 'query-status' = '{"status": "inmigrate", "running": false}' }
}

Describe 'Test-QemuMigration' {
    AfterEach {
        Stop-StartedMonitor
    }

    It 'reports on two QEMUs that are alike, without a change to either' {
        $vm = Start-Qemu -ArgumentList '-device', 'virtio-rng-pci,id=rng0'
        $target = Start-Qemu -ArgumentList '-device', 'virtio-rng-pci,id=rng0', '-incoming', 'defer'
        $report = Test-QemuMigration $target.Path -Monitor $vm.Path
        $report | Should -BeOfType MigrationOps.QemuMigrationReport
        $report.Checks.Where({ $_.Status -eq 'Blocker' }) | Should -BeNullOrEmpty
        $report.CanMigrate, $report.VM, $report.TargetIsHost | Should -Be $true, web01, $false
        (Connect-Monitor $vm.Path).State, (Connect-Monitor $target.Path).State | Should -Be running, inmigrate
    }

    It 'names the device that the target lacks, and what to type' {
        $vm = Start-Qemu -ArgumentList '-device', 'virtio-rng-pci,id=rng0,addr=5'
        $target = Start-Qemu -ArgumentList '-incoming', 'defer'
        $report = Test-QemuMigration $target.Path -Monitor $vm.Path
        $check = $report.Checks.Where({ $_.Name -eq 'DeviceTree' })[0]
        $check.Status, $report.CanMigrate | Should -Be Blocker, $false
        $check.RecommendedAction | Should -BeLike '*-device virtio-rng-pci,id=rng0,addr=0x5*'
        ($report | Out-String -Width 100).Split("`n").Length | Should -BeGreaterThan 3
        ($report | Out-String -Width 200).Split("`n").Where({ $_.StartsWith(' ') -and $_.Length -gt 100 }) | Should -BeNullOrEmpty
        Test-QemuMigration $target.Path -Monitor $vm.Path -Quiet | Should -BeExactly $false
    }

    It 'takes a host record, also one that came by remoting' {
        $qemu = Start-Qemu
        $offer = Get-QemuHost qemu-system-x86_64
        $there = [Management.Automation.PSSerializer]::Deserialize([Management.Automation.PSSerializer]::Serialize($offer, 1))
        $monitor = Connect-Monitor $qemu.Path
        foreach ($target in $offer, $there) {
            $report = $monitor | Test-QemuMigration -Target $target
            $report.TargetIsHost, $report.Target, $report.Checks.Where({ $_.Name -eq 'Machine' })[0].Status | Should -Be $true, $offer.Name, Passed
        }
    }

    It 'sends nothing but questions' {
        $vm, $target = (Start-Monitor $source), (Start-Monitor $waiting)
        $null = Test-QemuMigration $target.Path -Monitor $vm.Path
        (Get-ReceivedCommand $vm) + (Get-ReceivedCommand $target) | Where-Object { $_ -notmatch '^(qmp_capabilities|x?-?query-.*|qom-(list|get|list-get))$' } | Should -BeNullOrEmpty
    }

    It 'never lets what it could not find out pass' {
        $vm, $target = (Start-Monitor $source), (Start-Monitor $waiting)
        $report = Test-QemuMigration $target.Path -Monitor $vm.Path
        $report.Checks.Where({ $_.Name -in 'RamBlocks', 'Machine', 'VmState' }).Status | Select-Object -Unique | Should -Be Unknown
        $report.Checks.Where({ $_.Name -eq 'SameVm' })[0].Status | Should -Be Warning
    }

    It 'reports a target that another client holds, and by whom' {
        $vm, $target = (Start-Monitor $source), (Start-Monitor $waiting)
        $null = Connect-Monitor $target.Path
        $report = Test-QemuMigration $target.Path -Monitor $vm.Path
        $report.CanMigrate | Should -BeFalse
        $report.Checks.Where({ $_.Name -eq 'MonitorReach' })[0].Detail | Should -BeLike "*pid $PID*"
    }

    It 'uses the connection of the monitor that was measured' {
        $qemu = Start-Qemu
        $target = Start-Monitor $waiting
        $report = Connect-Monitor $qemu.Path | Measure-QemuDirtyRate -Window 0.1 | Test-QemuMigration $target.Path
        $report.Source | Should -Be "unix:$($qemu.Path)"
    }

    It 'leaves checks out by name' {
        $vm, $target = (Start-Monitor $source), (Start-Monitor $waiting)
        (Test-QemuMigration $target.Path -Monitor $vm.Path -Skip Cpu*, Machine).Checks.Name | Should -Not -Contain Machine
    }
}
