BeforeAll {
    . "$PSScriptRoot/Support.ps1"

    # Another runspace that receives a set, shows it, and lets go of it when told.
    function Start-Receiver([string] $Path) {
        $shell = New-Shell 'Restore-CprState "unix:$($p.Path)" -Timeout 60; Close-CprState' @{ Path = $Path }
        $script:shells.Add($shell)
        $script:receiving = $shell.BeginInvoke()
        Wait-Until { Test-Path -LiteralPath $Path } 'the receiver listens'
        $shell
    }
}

Describe 'Save-CprState' {
    BeforeEach {
        $script:shells = [Collections.Generic.List[powershell]]::new()
        $socket = New-SocketPath
        $null = Register-CprFd a -MemFd saved-a -Size 4096
        $null = Register-CprFd b -Id 2 -MemFd saved-b -Size 8192
    }

    AfterEach {
        foreach ($shell in $shells) { $shell.Runspace.Dispose(); $shell.Dispose() }
        Close-CprState
        Get-Job | Remove-Job -Force
    }

    It 'hands the whole registry over, and waits until the receiver has taken it' {
        $receiver = Start-Receiver $socket
        $result = Save-CprState "unix:$socket"
        $result.Entries | Should -Be 2
        # 8 of the header, 12 + 2 each, 1 of the end
        $result.Bytes | Should -Be (8 + 2 * (1 + 4 + 2 + 4 + 1) + 1)
        $result.TakenOver | Should -BeTrue
        $result.Peer | Should -Match "pid $PID, uid"
        $set = $receiver.EndInvoke($receiving)
        $set.Name | Should -Be b, a
        $set.Target | Should -Be '/memfd:saved-b (deleted)', '/memfd:saved-a (deleted)'
        (Get-CprFd).Name | Should -Be b, a
    }

    It 'hands over what is piped, and nothing else' {
        $receiver = Start-Receiver $socket
        (Get-CprFd a | Save-CprState "unix:$socket").Entries | Should -Be 1
        $receiver.EndInvoke($receiving).Name | Should -Be a
    }

    It 'works in the background' {
        $receiver = Start-Receiver $socket
        $job = Save-CprState "unix:$socket" -AsJob
        ($job | Receive-Job -Wait).TakenOver | Should -BeTrue
    }

    It 'does not wait with -NoWait' {
        $receiver = Start-Receiver $socket
        (Save-CprState "unix:$socket" -NoWait).TakenOver | Should -BeFalse
        $receiver.EndInvoke($receiving).Count | Should -Be 2
    }

    It 'runs into -Timeout when the receiver does not take over, and can try another one' {
        $listener = [Net.Sockets.Socket]::new('Unix', 'Stream', 'Unspecified')
        try {
            $listener.Bind([Net.Sockets.UnixDomainSocketEndPoint]::new($socket))
            $listener.Listen(1)
            Assert-Failure (Get-Failure { Save-CprState "unix:$socket" -Timeout 0.3 }) WireTimeout OperationTimeout '*take the descriptors over*' "unix:$socket"
        }
        finally {
            $listener.Dispose()
        }

        $other = New-SocketPath
        $null = Start-Receiver $other
        (Save-CprState "unix:$other").TakenOver | Should -BeTrue
    }

    It 'says so when the receiver closes without reading' {
        $listener = [Net.Sockets.Socket]::new('Unix', 'Stream', 'Unspecified')
        $listener.Bind([Net.Sockets.UnixDomainSocketEndPoint]::new($socket))
        $listener.Listen(1)
        $job = Save-CprState "unix:$socket" -AsJob
        $listener.Accept().Dispose()
        $null = $job | Wait-Job -Timeout 60
        $listener.Dispose()
        $job.Error[0].FullyQualifiedErrorId | Should -BeLike 'CprNotTakenOver*'
    }

    It 'fails where no process listens' {
        Assert-Failure (Get-Failure { Save-CprState "unix:$socket" }) WireNotFound ObjectNotFound '*there is no such socket*' $socket
    }

    It 'refuses a received set that lost an entry, unless -Force is given' {
        # A sender in another runspace; then the set is received here.
        Close-CprState
        $in = New-SocketPath
        $job = Restore-CprState "unix:$in" -AsJob
        $sender = New-Shell '$null = Register-CprFd x -MemFd x -Size 1; $null = Register-CprFd y -MemFd y -Size 1; $null = Save-CprState "unix:$($p.In)" -NoWait' @{ In = $in }
        $shells.Add($sender)
        $null = $sender.Invoke()
        $set = $job | Receive-Job -Wait
        $failure = Get-Failure { $set | Where-Object Name -NE x | Save-CprState "unix:$socket" }
        Assert-Failure $failure CprEntriesLost InvalidOperation "The set lacks 1 of the 2 received entries: 'x', id 0." "unix:$socket"
        $null = Register-CprFd added -MemFd added -Size 1
        $receiver = Start-Receiver $socket
        (@($set | Where-Object Name -NE x) + @(Get-CprFd added) | Save-CprState "unix:$socket" -Force).Entries | Should -Be 2
        $receiver.EndInvoke($receiving).Name | Should -Be added, y
    }

    It 'refuses an entry that is not registered any more' {
        $gone = Get-CprFd a
        Unregister-CprFd a
        Assert-Failure (Get-Failure { $gone | Save-CprState "unix:$socket" }) CprEntryNotFound ObjectNotFound "'a', id 0, *" a
    }

    It 'refuses a descriptor that was closed meanwhile before it connects' {
        [Microsoft.Win32.SafeHandles.SafeFileHandle]::new((Get-CprFd a).Fd, $true).Dispose()
        Assert-Failure (Get-Failure { Save-CprState "unix:$socket" }) CprDescriptorClosed InvalidOperation "Entry 'a', id 0*" a
    }

    It 'refuses two entries with one key' {
        $null = Register-CprFd a -MemFd again -Size 1 -Force
        Assert-Failure (Get-Failure { Save-CprState "unix:$socket" }) CprDuplicateEntry ProtocolError "Two entries have the name 'a'*" a
    }

    It 'has nothing to do for an empty pipeline or registry' {
        Assert-Failure (Get-Failure { @() | Save-CprState "unix:$socket" }) CprNothingToDo InvalidOperation 'There is no entry*' "unix:$socket"
        Close-CprState
        Assert-Failure (Get-Failure { Save-CprState "unix:$socket" }) CprNothingToDo InvalidOperation 'There is no entry*' "unix:$socket"
    }

    It 'describes the set in a file without descriptors' {
        $result = Save-CprState -Path "$TestDrive/set.json"
        $result.Path | Should -Be "$TestDrive/set.json"
        $result.Bytes | Should -Be (Get-Item "$TestDrive/set.json").Length
        $description = Get-Content "$TestDrive/set.json" -Raw | ConvertFrom-Json
        $description.kind | Should -Be 'cpr-state'
        $description.entries.name | Should -Be b, a
        $description.entries.fd | Should -Be -1, -1
        $description.entries.kind | Should -Be MemFd, MemFd
        Get-Leftover | Should -Be set.json
    }

    It 'lets a program that is started inherit the descriptors with -ExecState, until Close-CprState' {
        $result = Save-CprState -ExecState
        $result.Uri | Should -Be "QEMU_CPR_EXEC_STATE=$env:QEMU_CPR_EXEC_STATE"
        & /bin/sh -c 'ls -l /proc/self/fd' | Out-String | Should -Match 'saved-a'
        # What the next program does: it takes over what it has inherited.
        $names = & pwsh -NoProfile -Command "Import-Module '$manifestPath'; (Restore-CprState -ExecState).Target; `$env:QEMU_CPR_EXEC_STATE"
        $names | Should -Be '/memfd:saved-b (deleted)', '/memfd:saved-a (deleted)'
        Close-CprState
        & /bin/sh -c 'ls -l /proc/self/fd' | Out-String | Should -Not -Match 'saved-a'
        $env:QEMU_CPR_EXEC_STATE | Should -BeNullOrEmpty
    }

    It 'connects nowhere and writes nothing with -WhatIf' {
        Save-CprState "unix:$socket" -WhatIf
        Save-CprState -Path "$TestDrive/what-if.json" -WhatIf
        "$TestDrive/what-if.json" | Should -Not -Exist
    }
}
