BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    $runbook = "$repository/examples/Backup-VhostBackend.ps1"
    $peers = $env:MIGRATIONOPS_PEERS ? $env:MIGRATIONOPS_PEERS : "$HOME/.cache/migrationops/peers"
    $processes = [Collections.Generic.List[Diagnostics.Process]]::new()

    # A real back-end that listens on a socket; it ends with its test.
    function Start-Peer {
        param([string] $Name, [string] $Socket, [string[]] $Arguments)
        if (-not (Test-Path -LiteralPath "$peers/bin/$Name")) {
            Set-ItResult -Skipped -Because "$Name is not installed. Install the peers with tests/Interop/install-peers.sh"
        }

        $start = [Diagnostics.ProcessStartInfo]::new("$peers/bin/$Name")
        $Arguments | ForEach-Object { $start.ArgumentList.Add($_) }
        $start.RedirectStandardOutput = $start.RedirectStandardError = $start.RedirectStandardInput = $true
        $process = [Diagnostics.Process]::Start($start)
        $processes.Add($process)
        Wait-Until { $process.HasExited -or (Get-Content -LiteralPath /proc/net/unix) -match " 00010000 .* $([regex]::Escape($Socket))$" } "$Name listening on $Socket"
        if ($process.HasExited) {
            throw "$Name ended: $($process.StandardError.ReadToEnd())"
        }
    }
}

Describe 'Backup-VhostBackend.ps1' {
    AfterEach {
        Stop-StartedBackend
        foreach ($process in $processes) {
            $process.Kill()
            $process.WaitForExit()
            $process.Dispose()
        }

        $processes.Clear()
        Get-ChildItem -LiteralPath $TestDrive -Force | Remove-Item -Recurse -Force
    }

    It 'saves, verifies, restores and reports' {
        $source = Start-Backend -Size 3MB
        $scratch = Start-Backend -Size 3MB
        $result = & $runbook -SocketPath $source.SocketPath -ScratchSocketPath $scratch.SocketPath -Path "$TestDrive/a.state"
        $result.Passed | Should -BeTrue
        $result.Bytes | Should -Be 3MB
        $scratch.BytesLoaded | Should -Be 3MB
        $source.Connections | Should -Be 1
        Test-DeviceState $result.Path -Sha256 $result.Sha256 -Quiet | Should -BeTrue
        $report = Get-Content -LiteralPath "$TestDrive/a.state.report.md" -Raw
        $report | Should -BeLike "# State of $($source.SocketPath)*Outcome: ??passed*$($result.Sha256)*"
        [regex]::Matches($report, '(?m)^\| (Save|Verify|Restore into the scratch back-end|Compare) \| passed \|').Count | Should -Be 4
    }

    It 'does nothing with -WhatIf' {
        $source = Start-Backend
        $scratch = Start-Backend
        & $runbook $source.SocketPath $scratch.SocketPath "$TestDrive/a.state" -WhatIf | Should -BeNullOrEmpty
        $source.Connections + $scratch.Connections | Should -Be 0
        Get-Leftover | Should -BeNullOrEmpty
    }

    It 'reports <Name> and fails with <Id>' -ForEach @(
        @{ Name = 'a save that the back-end calls failed'; Source = @{ Fault = 'FailCheck' }; Scratch = @{}; Step = 'Save'; Id = 'VhostCheckFailed' }
        @{ Name = 'a source without device state'; Source = @{ NoDeviceState = $true }; Scratch = @{}; Step = 'Save'; Id = 'VhostNoDeviceState' }
        @{ Name = 'a scratch back-end that does not take the state'; Source = @{}; Scratch = @{ Size = 2MB }; Step = 'Restore into the scratch back-end'; Id = 'VhostCheckFailed' }
        @{ Name = 'a scratch back-end that stalls'; Source = @{ Size = 4MB }; Scratch = @{ Size = 4MB; Fault = 'Stall'; FaultByte = 10 }; Step = 'Restore into the scratch back-end'; Id = 'VhostTransferStalled' }
    ) {
        $from = (Start-Backend @Source).SocketPath
        $to = (Start-Backend @Scratch).SocketPath
        $failure = Get-Failure { & $runbook $from $to "$TestDrive/a.state" -Timeout 0.3 }
        $failure.FullyQualifiedErrorId | Should -BeLike "$Id,*"
        $failure.Exception.Message | Should -BeLike "$Step failed: *a.state.report.md*"
        $failure.ErrorDetails.RecommendedAction | Should -Not -BeNullOrEmpty
        $report = Get-Content -LiteralPath "$TestDrive/a.state.report.md" -Raw
        $report | Should -BeLike "*Outcome: ??FAILED*| $Step | FAILED |*What to do: *"
    }

    It 'does not take the back-end itself for scratch' {
        $source = Start-Backend
        (Get-Failure { & $runbook $source.SocketPath $source.SocketPath "$TestDrive/a.state" }).FullyQualifiedErrorId | Should -BeLike 'ScratchIsSource,*'
        $source.Connections | Should -Be 0
    }

    It 'has help for every parameter and two examples' {
        $help = Get-Help -Name $runbook -Full
        $help.parameters.parameter | Where-Object -Property Name -NotIn -Value 'WhatIf', 'Confirm' | ForEach-Object { $_.description.Text | Should -Not -BeNullOrEmpty -Because $_.name }
        @($help.examples.example).Count | Should -BeGreaterOrEqual 2
    }

    It 'keeps the state of a real virtiofsd' {
        $null = New-Item -ItemType Directory -Path "$TestDrive/shared"
        'content' | Set-Content -LiteralPath "$TestDrive/shared/file"
        $from = New-SocketPath
        $to = New-SocketPath
        $from, $to | ForEach-Object { Start-Peer virtiofsd $_ '--socket-path', $_, '--shared-dir', "$TestDrive/shared", '--sandbox', 'none' }
        $result = & $runbook $from $to "$TestDrive/vfs.state"
        $result.Passed | Should -BeTrue
        $result.Device | Should -BeLike 'virtiofsd (pid *'
        $result.Bytes | Should -BeGreaterThan 0
        Get-Content -LiteralPath $result.ReportPath -Raw | Should -BeLike '*into virtiofsd (pid *which reports success*'
    }

    It 'keeps the state of a real passt' {
        $from = New-SocketPath
        $to = New-SocketPath
        $from, $to | ForEach-Object { Start-Peer passt $_ '--vhost-user', '-s', $_, '-f' }
        $result = & $runbook $from $to "$TestDrive/passt.state"
        $result.Passed | Should -BeTrue
        $result.Device | Should -BeLike 'passt* (pid *'
    }
}
