BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
}

Describe 'Disconnect-QemuMonitor' {
    AfterEach {
        Stop-StartedMonitor
    }

    It 'leaves the monitor to the next client' {
        $scripted = Start-Monitor
        $monitor = Connect-QemuMonitor $scripted.Path
        $monitor | Disconnect-QemuMonitor
        $monitor.IsConnected | Should -BeFalse
        (Connect-Monitor $scripted.Path).IsConnected | Should -BeTrue
    }

    It 'leaves several, and one twice' {
        $monitors = (Start-Monitor), (Start-Monitor) | ForEach-Object { Connect-QemuMonitor $_.Path }
        $monitors | Disconnect-QemuMonitor
        $monitors | Disconnect-QemuMonitor
        $monitors.IsConnected | Should -Be $false, $false
    }

    It 'makes later commands fail with a name' {
        $monitor = Connect-QemuMonitor (Start-Monitor).Path
        Disconnect-QemuMonitor $monitor
        (Get-Failure { $monitor | Invoke-QemuMonitorCommand query-status }).FullyQualifiedErrorId | Should -BeLike 'QmpDisconnected,*'
    }
}
