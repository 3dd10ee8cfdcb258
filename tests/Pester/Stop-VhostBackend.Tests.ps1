BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Stop-VhostBackend' {
    It 'stops a back-end and removes its socket' {
        $backend = Start-VhostBackend (New-SocketPath)
        Stop-VhostBackend $backend | Should -BeNullOrEmpty
        $backend.IsRunning | Should -BeFalse
        $backend.SocketPath | Should -Not -Exist
    }

    It 'stops several from the pipeline' {
        $backends = 1..3 | ForEach-Object { Start-VhostBackend (New-SocketPath) }
        $backends | Stop-VhostBackend
        $backends.IsRunning | Should -Not -Contain $true
    }

    It 'finds a back-end by its socket' {
        $backend = Start-VhostBackend (New-SocketPath)
        Stop-VhostBackend -SocketPath $backend.SocketPath
        $backend.IsRunning | Should -BeFalse
    }

    It 'takes a back-end that is stopped already' {
        $backend = Start-VhostBackend (New-SocketPath)
        $backend, $backend | Stop-VhostBackend
        $backend.Dispose()
        $backend.IsRunning | Should -BeFalse
    }

    It 'stops a back-end in the middle of a transfer, which then fails' {
        $backend = Start-VhostBackend (New-SocketPath) -Size 4MB -Fault Stall -FaultByte 1000
        $job = Start-VhostStateSave $backend.SocketPath "$TestDrive/a.state" -AsJob
        Wait-Until { $backend.BytesSaved -eq 1000 } 'the stall'
        $clock = [Diagnostics.Stopwatch]::StartNew()
        $backend | Stop-VhostBackend
        $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
        $null = $job | Wait-Job
        $job.State | Should -Be Failed
        $job | Remove-Job
        Get-Leftover | Should -BeNullOrEmpty
    }

    It 'stops nothing with -WhatIf' {
        $backend = Start-VhostBackend (New-SocketPath)
        $backend | Stop-VhostBackend -WhatIf
        $backend.IsRunning | Should -BeTrue
        $backend | Stop-VhostBackend
    }

    It 'does not know a socket of another session' {
        $failure = Get-Failure { Stop-VhostBackend -SocketPath "$TestDrive/none.sock" }
        Assert-Failure $failure VhostBackendNotFound ObjectNotFound '*runs no embedded back-end*' "$TestDrive/none.sock"
    }

    It 'does not take other objects' {
        (Get-Failure { 'text' | Stop-VhostBackend }).CategoryInfo.Category | Should -Be InvalidArgument
    }
}
