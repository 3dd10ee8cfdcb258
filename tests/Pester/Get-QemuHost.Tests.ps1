BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
}

Describe 'Get-QemuHost' {
    AfterEach {
        Stop-StartedMonitor
    }

    It 'tells what this host offers, as a record that survives remoting' {
        if (-not (Get-Command -Name qemu-system-x86_64 -ErrorAction Ignore)) { Set-ItResult -Skipped -Because 'qemu-system-x86_64 is not installed: tests/Interop/install-peers.sh installs it' }
        $qemu = Get-QemuHost qemu-system-x86_64
        $qemu | Should -BeOfType MigrationOps.QemuHost
        $qemu.Name | Should -Be ([Environment]::MachineName)
        $qemu.Machines.Alias | Should -Contain q35
        $qemu.Commands | Should -Contain migrate
        $there = [Management.Automation.PSSerializer]::Deserialize([Management.Automation.PSSerializer]::Serialize($qemu, 1))
        $there.Machines[0].Name | Should -Be $qemu.Machines[0].Name
        $there.CpuWords[0].Bits | Should -Be $qemu.CpuWords[0].Bits
        $there.AvailableBytes | Should -Be $qemu.AvailableBytes
    }

    It 'tells the words of the CPU model that is asked for' {
        if (-not (Get-Command -Name qemu-system-x86_64 -ErrorAction Ignore)) { Set-ItResult -Skipped -Because 'qemu-system-x86_64 is not installed: tests/Interop/install-peers.sh installs it' }
        (Get-QemuHost qemu-system-x86_64 -ProbeCpu qemu64 -ProbeMachine pc).CpuModel | Should -Be qemu64
    }

    It 'says so when there is no such program' {
        $failure = Get-Failure { Get-QemuHost no-such-qemu }
        Assert-Failure $failure QmpStartFailed ConnectionError '*no-such-qemu*' no-such-qemu
    }

    It 'tells the words of a program that ends at once' {
        Set-Content -LiteralPath "$TestDrive/qemu-system-x86_64" -Value "#!/bin/sh`necho 'qemu: it is so' >&2; exit 3"
        chmod +x "$TestDrive/qemu-system-x86_64"
        (Get-Failure { Get-QemuHost "$TestDrive/qemu-system-x86_64" }).Exception.Message | Should -BeLike '*exit code 3*it is so*'
    }
}
