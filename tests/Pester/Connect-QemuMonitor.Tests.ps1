BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
}

Describe 'Connect-QemuMonitor' {
    AfterEach {
        Stop-StartedMonitor
    }

    It 'connects and tells what it has connected to' {
        $scripted = Start-Monitor
        $monitor = Connect-Monitor $scripted.Path
        $monitor | Should -BeOfType MigrationOps.QemuMonitor
        $monitor.Name | Should -Be web01
        $monitor.Uri | Should -Be $scripted.Uri
        $monitor.Version | Should -Be 10.0.2
        $monitor.State | Should -Be running
        $monitor.ProcessId | Should -Be $PID
        $monitor.IsConnected | Should -BeTrue
        Get-ReceivedCommand $scripted | Should -Be 'qmp_capabilities', 'query-status', 'query-name'
    }

    It 'takes a URI and a path relative to the current location' {
        $scripted = Start-Monitor
        (Connect-Monitor $scripted.Uri).Name | Should -Be web01
        Stop-StartedMonitor
        $scripted = Start-Monitor -Path "$TestDrive/r.sock"
        Push-Location -LiteralPath $TestDrive
        try { (Connect-Monitor ./r.sock).Path | Should -Be "$TestDrive/r.sock" } finally { Pop-Location }
    }

    It 'names the process that holds the monitor' {
        $scripted = Start-Monitor
        $null = Connect-Monitor $scripted.Path
        Assert-Failure (Get-Failure { Connect-QemuMonitor $scripted.Path }) QmpMonitorBusy InvalidOperation "*pid $PID, this process*" $scripted.Path
    }

    It 'refuses the socket of <Manager>' -ForEach @(
        @{ Manager = 'libvirt'; Path = '/var/lib/libvirt/qemu/domain-1-web/monitor.sock' }
    ) {
        Assert-Failure (Get-Failure { Connect-QemuMonitor $Path }) QmpManagedMonitor InvalidOperation '*libvirt*' $Path
    }

    It 'uses a lease for the number of a Proxmox VM' {
        (Get-Failure { Connect-QemuMonitor -ProxmoxId 999999 }).FullyQualifiedErrorId | Should -BeLike 'WireNotFound,*'
    }

    It 'holds no connection between commands with -Lease' {
        $scripted = Start-Monitor
        $monitor = Connect-Monitor $scripted.Path -Lease
        $monitor.Name, $monitor.State, $monitor.IsConnected, $monitor.Lease | Should -Be web01, running, $false, $true
        $other = Connect-Monitor $scripted.Path
        $other.IsConnected | Should -BeTrue
    }

    It 'finds no socket' {
        Assert-Failure (Get-Failure { Connect-QemuMonitor "$TestDrive/none.sock" }) WireNotFound ObjectNotFound '*no such socket*' "$TestDrive/none.sock"
    }

    It 'does not wait longer than -Timeout for a greeting' {
        $listener = [Net.Sockets.Socket]::new('Unix', 'Stream', 'Unspecified')
        $path = New-SocketPath
        $listener.Bind([Net.Sockets.UnixDomainSocketEndPoint]::new($path))
        $listener.Listen(1)
        try { (Get-Failure { Connect-QemuMonitor $path -Timeout 0.3 }).FullyQualifiedErrorId | Should -BeLike 'QmpNoGreeting,*' } finally { $listener.Dispose() }
    }

    It 'is refused over a network in the clear' {
        (Get-Failure { Connect-QemuMonitor tcp:192.0.2.1:4444 }).FullyQualifiedErrorId | Should -BeLike 'WirePlaintextRefused,*'
    }

    It 'says what is missing for a domain of libvirt' {
        $path = $env:PATH
        try {
            $env:PATH = $TestDrive
            $failure = Get-Failure { Connect-QemuMonitor -Domain web01 }
        } finally { $env:PATH = $path }
        $failure.FullyQualifiedErrorId | Should -BeLike 'QmpStartFailed,*'
        $failure.ErrorDetails.RecommendedAction | Should -BeLike '*libvirt-clients-qemu*'
    }

    It 'reaches a domain of libvirt through the proxy, read-only, and ends the proxy' {
        # A stand-in for virt-qemu-qmp-proxy: it moves a scripted monitor's socket to where the proxy is told to listen.
        $scripted = Start-Monitor
        Set-Content -LiteralPath "$TestDrive/virt-qemu-qmp-proxy" -Value (@(
                '#!/bin/sh'
                "ln -s '$($scripted.Path)' ""`$4"""
                "echo `$`$ > '$TestDrive/proxy.pid'"
                'exec sleep 1000') -join "`n")
        chmod +x "$TestDrive/virt-qemu-qmp-proxy"
        $path = $env:PATH
        try {
            $env:PATH = "${TestDrive}:$path"
            $monitor = Connect-Monitor -Domain web01
        } finally { $env:PATH = $path }
        $monitor.ReadOnly, $monitor.Manager | Should -Be $true, 'Libvirt'
        ($monitor | Invoke-QemuMonitorCommand query-status).status | Should -Be running
        $proxy = [int](Get-Content -LiteralPath "$TestDrive/proxy.pid")
        $monitor | Disconnect-QemuMonitor
        "/proc/$proxy" | Should -Not -Exist
    }

    It 'closes its connections with the session' {
        $scripted = Start-Monitor
        $shell = New-Shell 'Connect-QemuMonitor $p.Path' @{ Path = $scripted.Path }
        $shell.Invoke().IsConnected | Should -BeTrue
        $shell.Runspace.Dispose()
        $shell.Dispose()
        Wait-Until { -not (Find-Holder $scripted.Path) } 'the end of the connection'
        (Connect-Monitor $scripted.Path).IsConnected | Should -BeTrue
    }

    BeforeAll {
        # True while a client is connected to the socket.
        function Find-Holder([string] $Path) {
            $holder = [AppDomain]::CurrentDomain.GetAssemblies().Where({ $_.GetName().Name -eq 'MigrationOps.Engine' })[-1].GetType('MigrationOps.Engine.Qmp.MonitorHolder')
            $holder.GetMethods($anyMember).Where({ $_.Name -eq 'Find' -and $_.GetParameters().Count -eq 1 })[0].Invoke($null, @($Path))
        }
    }
}
