BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Close-CprState' {
    AfterEach {
        Close-CprState
    }

    It 'does nothing when there is nothing' {
        Close-CprState | Should -BeNullOrEmpty
    }

    It 'closes all descriptors' {
        $null = Register-CprFd m0 -MemFd to-be-closed -Size 4096
        Close-CprState
        Get-CprFd | Should -BeNullOrEmpty
        (Get-ChildItem /proc/self/fd).LinkTarget -match 'to-be-closed' | Should -BeNullOrEmpty
    }

    It 'keeps them with -KeepFd' {
        $null = Register-CprFd m0 -MemFd kept -Size 4096
        Close-CprState -KeepFd
        (Get-CprFd).Target | Should -Be '/memfd:kept (deleted)'
    }

    It 'tells the sender, who waits for it, that everything was taken over' {
        $socket = New-SocketPath
        $job = Restore-CprState "unix:$socket" -AsJob
        $sender = New-Shell '$null = Register-CprFd x -MemFd x -Size 1; Save-CprState "unix:$($p.Path)" -Timeout 60' @{ Path = $socket }
        try {
            $sending = $sender.BeginInvoke()
            $null = $job | Wait-Job | Receive-Job -Wait -AutoRemoveJob
            $sending.AsyncWaitHandle.WaitOne(300) | Should -BeFalse
            Close-CprState -KeepFd
            $sender.EndInvoke($sending).TakenOver | Should -BeTrue
            (Get-CprFd).Name | Should -Be x
        }
        finally {
            $sender.Runspace.Dispose()
            $sender.Dispose()
        }
    }

    It 'closes nothing with -WhatIf' {
        $null = Register-CprFd m0 -MemFd kept -Size 4096
        Close-CprState -WhatIf
        (Get-CprFd).Name | Should -Be m0
    }
}
