BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
}

Describe 'Wait-QemuEvent' {
    AfterEach {
        Stop-StartedMonitor
    }

    It 'gives an event that came before it was waited for, with both clocks' {
        $scripted = Start-Monitor
        $monitor = Connect-Monitor $scripted.Path
        Send-MonitorEvent $scripted STOP
        $event = $monitor | Wait-QemuEvent STOP
        $event | Should -BeOfType MigrationOps.QemuEvent
        $event.Name, $event.Sequence, $event.Dropped, $event.VM | Should -Be STOP, 1, 0, web01
        [Math]::Abs(($event.ReceivedAt - $event.QemuTime).TotalSeconds) | Should -BeLessThan 20
    }

    It 'gives each event once, in order' {
        $scripted = Start-Monitor
        $monitor = Connect-Monitor $scripted.Path
        1..3 | ForEach-Object { Send-MonitorEvent $scripted MIGRATION_PASS "{""pass"": $_}" }
        (1..3 | ForEach-Object { $monitor | Wait-QemuEvent MIGRATION* }).Data.pass | Should -Be 1, 2, 3
    }

    It 'takes the event with the given data' {
        $scripted = Start-Monitor
        $monitor = Connect-Monitor $scripted.Path
        'setup', 'active', 'completed' | ForEach-Object { Send-MonitorEvent $scripted MIGRATION "{""status"": ""$_""}" }
        ($monitor | Wait-QemuEvent MIGRATION @{ status = 'completed' }).Sequence | Should -Be 3
    }

    It 'gives every event with -Follow, until none comes' {
        $scripted = Start-Monitor
        $monitor = Connect-Monitor $scripted.Path
        1..5 | ForEach-Object { Send-MonitorEvent $scripted N "{""i"": $_}" }
        ($monitor | Wait-QemuEvent -Follow -Timeout 0.5).Data.i | Should -Be 1, 2, 3, 4, 5
    }

    It 'fails after -Timeout' {
        $scripted = Start-Monitor
        $monitor = Connect-Monitor $scripted.Path
        Assert-Failure (Get-Failure { $monitor | Wait-QemuEvent STOP -Timeout 0.2 }) QmpEventTimeout OperationTimeout '*did not come*' $scripted.Uri
    }

    It 'is refused with -Lease' {
        $monitor = Connect-Monitor (Start-Monitor).Path -Lease
        (Get-Failure { $monitor | Wait-QemuEvent STOP }).FullyQualifiedErrorId | Should -BeLike 'QmpLeaseOnly,*'
    }

    It 'survives serialization with its data' {
        $scripted = Start-Monitor
        $monitor = Connect-Monitor $scripted.Path
        Send-MonitorEvent $scripted MIGRATION '{"status": "active", "in": {"deep": [1, 2]}}'
        $monitor | Wait-QemuEvent MIGRATION | Export-Clixml -LiteralPath "$TestDrive/e.xml"
        $event = Import-Clixml -LiteralPath "$TestDrive/e.xml"
        $event.Data.status, $event.Data.in.deep[1] | Should -Be active, 2
    }
}
