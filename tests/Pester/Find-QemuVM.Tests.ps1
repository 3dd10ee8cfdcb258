BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
}

Describe 'Find-QemuVM' {
    AfterEach {
        Stop-StartedMonitor
    }

    It 'finds a VM by its name and tells what it is' {
        $qemu = Start-Qemu -Name "vm-$PID-a"
        $vm = Find-QemuVM "vm-$PID-*"
        $vm | Should -BeOfType MigrationOps.QemuVM
        $vm.Name, $vm.ProcessId, $vm.Manager, $vm.State, $vm.MemoryBytes | Should -Be "vm-$PID-a", $qemu.Process.Id, None, running, 64MB
        $vm.Machine | Should -BeLike 'pc-q35-*'
        $vm.Monitor | Should -Be "unix:$($qemu.Path)"
        $vm.MonitorHolder | Should -BeNullOrEmpty
    }

    It 'pipes to Connect-QemuMonitor, and then names the holder' {
        $qemu = Start-Qemu -Name "vm-$PID-b"
        $monitor = Find-QemuVM "vm-$PID-b" | Connect-QemuMonitor
        $script:connected.Add($monitor)
        $vm = Find-QemuVM "vm-$PID-b"
        $vm.MonitorHolder | Should -BeLike "*(pid $PID, this process)"
        $vm.Monitor | Should -BeNullOrEmpty
        $vm.State | Should -BeNullOrEmpty
        (Get-Failure { $vm | Connect-QemuMonitor }).FullyQualifiedErrorId | Should -BeLike 'QmpMonitorBusy,*'
    }

    It 'asks no monitor with -NoQuery' {
        $qemu = Start-Qemu -Name "vm-$PID-c"
        $vm = Find-QemuVM "vm-$PID-c" -NoQuery
        $vm.State, $vm.Version | Should -Be $null, $null
        $vm.Machine | Should -Be q35
    }

    It 'gives what survives remoting and still connects' {
        $qemu = Start-Qemu -Name "vm-$PID-d"
        $vm = [Management.Automation.PSSerializer]::Deserialize([Management.Automation.PSSerializer]::Serialize((Find-QemuVM "vm-$PID-d"), 1))
        $vm.Monitors[0].Uri | Should -Be "unix:$($qemu.Path)"
        $vm.Manager | Should -Be None
        (Invoke-QemuMonitorCommand -Monitor $vm query-status).status | Should -Be running
    }

    It 'fails for a name that is not there, and not for a pattern' {
        Find-QemuVM no-such-vm-* | Should -BeNullOrEmpty
        Assert-Failure (Get-Failure { Find-QemuVM no-such-vm }) QmpVMNotFound ObjectNotFound "*'no-such-vm'*" no-such-vm
    }

    It 'takes only VMs of a manager' {
        $qemu = Start-Qemu -Name "vm-$PID-e"
        Find-QemuVM "vm-$PID-*" -Manager Proxmox | Should -BeNullOrEmpty
        Find-QemuVM "vm-$PID-*" -Manager Proxmox, None | Should -Not -BeNullOrEmpty
    }
}
