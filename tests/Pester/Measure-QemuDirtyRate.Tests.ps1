BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
}

Describe 'Measure-QemuDirtyRate' {
    AfterEach {
        Stop-StartedMonitor
    }

    It 'measures a VM over its windows' {
        $qemu = Start-Qemu
        $profile = Measure-QemuDirtyRate -Monitor $qemu.Path -Window 0.1, 1
        $profile | Should -BeOfType MigrationOps.DirtyRateProfile
        $profile.Windows.Window.TotalSeconds | Should -Be 0.1, 1
        $profile.Mode, $profile.SamplePages, $profile.MemoryBytes, $profile.VM | Should -Be PageSampling, 512, 64MB, web01
    }

    It 'measures through a read-only monitor' {
        $qemu = Start-Qemu
        $monitor = Connect-Monitor $qemu.Path -ReadOnly
        ($monitor | Measure-QemuDirtyRate -Window 0.1).Windows.Count | Should -Be 1
    }

    It 'refuses while a migration runs' {
        $scripted = Start-Monitor @{ 'query-migrate' = '{"status": "active"}'; 'query-qmp-schema' = '[]' }
        $failure = Get-Failure { Measure-QemuDirtyRate -Monitor $scripted.Path -Window 1 }
        Assert-Failure $failure QmpMigrationRunning InvalidOperation "*'active'*" $scripted.Uri
        Get-ReceivedCommand $scripted | Should -Not -Contain calc-dirty-rate
    }

    It 'refuses windows that QEMU does not take' {
        (Get-Failure { Measure-QemuDirtyRate -Monitor x -Window 0.01 }).FullyQualifiedErrorId | Should -BeLike 'QmpInvalidArgument,*'
        (Get-Failure { Measure-QemuDirtyRate -Monitor x -Window 61 }).FullyQualifiedErrorId | Should -BeLike 'QmpInvalidArgument,*'
    }
}
