BeforeAll {
    . "$PSScriptRoot/Support.ps1"

    # Another runspace that hands two entries over, and waits for nothing.
    function Send-Set([string] $Uri) {
        $shell = New-Shell '$null = Register-CprFd a -MemFd handed-a -Size 4096; $null = Register-CprFd b -Id 5 -MemFd handed-b -Size 8192; Save-CprState $p.Uri -NoWait' @{ Uri = $Uri }
        $script:shells.Add($shell)
        $null = $shell.Invoke()
        if ($shell.HadErrors) { throw $shell.Streams.Error[0] }
    }

    # A client that sends bytes without descriptors, and closes.
    function Send-Raw([string] $Path, [byte[]] $Bytes, [switch] $Open) {
        $socket = [Net.Sockets.Socket]::new('Unix', 'Stream', 'Unspecified')
        $socket.Connect([Net.Sockets.UnixDomainSocketEndPoint]::new($Path))
        if ($Bytes) { $null = $socket.Send($Bytes) }
        if ($Open) { $socket } else { $socket.Dispose() }
    }
}

Describe 'Restore-CprState' {
    BeforeEach {
        $script:shells = [Collections.Generic.List[powershell]]::new()
        $socket = New-SocketPath
    }

    AfterEach {
        foreach ($shell in $shells) { $shell.Runspace.Dispose(); $shell.Dispose() }
        Close-CprState
        Get-Job | Remove-Job -Force
    }

    It 'gives the entries of the set, newest first, and fills the registry' {
        $job = Restore-CprState "unix:$socket" -AsJob
        Send-Set "unix:$socket"
        $set = $job | Receive-Job -Wait
        $set.Name | Should -Be b, a
        $set.Id | Should -Be 5, 0
        $set.Size | Should -Be 8192, 4096
        $set.Received | Should -Be $true, $true
        (Get-CprFd).Fd | Should -Be $set.Fd
        $socket | Should -Not -Exist
    }

    It 'says who came with -Verbose' {
        $job = Restore-CprState "unix:$socket" -AsJob -Verbose
        Send-Set "unix:$socket"
        $null = $job | Wait-Job
        "$($job.Verbose)" | Should -Match "pid $PID.* handed 2 descriptors over"
    }

    It 'runs into -Timeout when no peer connects, and removes its socket' {
        $failure = Get-Failure { Restore-CprState "unix:$socket" -Timeout 0.2 }
        Assert-Failure $failure WireTimeout OperationTimeout "*a CPR source on unix:$socket*" "unix:$socket"
        $socket | Should -Not -Exist
    }

    It 'runs into -Timeout when a client says nothing' {
        $job = Restore-CprState "unix:$socket" -AsJob -Timeout 0.3
        $client = Send-Raw $socket -Open
        try { $null = $job | Wait-Job -Timeout 60 } finally { $client.Dispose() }
        $job.State | Should -Be Failed
        $job.Error[0].FullyQualifiedErrorId | Should -BeLike 'WireTimeout*'
        Get-CprFd | Should -BeNullOrEmpty
    }

    It 'is stopped at once' {
        $job = Restore-CprState "unix:$socket" -AsJob -Timeout 60
        $clock = [Diagnostics.Stopwatch]::StartNew()
        $job | Stop-Job
        $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
        $socket | Should -Not -Exist
    }

    It 'refuses <What> and leaves the registry as it was' -ForEach @(
        @{ What = 'a main channel'; Bytes = [byte[]](0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3); Id = 'CprBadMagic' }
        @{ What = 'another version'; Bytes = [byte[]](0x51, 0x43, 0x50, 0x52, 0, 0, 0, 2); Id = 'CprUnsupportedVersion' }
        @{ What = 'an end in the middle'; Bytes = [byte[]](0x51, 0x43, 0x50, 0x52, 0, 0, 0, 1, 1, 0); Id = 'CprTruncated' }
        @{ What = 'an entry without descriptor'; Bytes = [byte[]](0x51, 0x43, 0x50, 0x52, 0, 0, 0, 1, 1, 0, 0, 0, 2, 0x61, 0, 0, 0, 0, 0, 0x20, 0); Id = 'CprMissingDescriptor' }
    ) {
        $null = Register-CprFd mine -MemFd mine -Size 4096
        $job = Restore-CprState "unix:$socket" -AsJob
        Send-Raw $socket $Bytes
        $null = $job | Wait-Job -Timeout 60
        $job.Error[0].FullyQualifiedErrorId | Should -BeLike "$Id*"
        $job.Error[0].Exception.ByteOffset | Should -Not -BeNullOrEmpty
        (Get-CprFd).Name | Should -Be mine
    }

    It 'makes a socket that admits the users of -AllowUid, and no others where that is possible' -ForEach @(
        @{ Users = @(); Mode = '600'; Owner = $null }
        @{ Users = @(54321); Mode = '600'; Owner = 54321 }
        @{ Users = @(54321, 54322); Mode = '666'; Owner = $null }
    ) {
        $self = [uint](id -u)
        $socket = "$TestDrive/allowed"
        $allow = @{}
        if ($Users) { $allow.AllowUid = [uint[]]$Users }
        $job = Restore-CprState "unix:$socket" -AsJob @allow
        try {
            Wait-Until { Test-Path -LiteralPath $socket } 'the socket'
            # Only root can give a file away.
            $shared = $Users.Count -eq 1 -and $self -ne 0
            stat -c %a -- $socket | Should -Be ($shared ? '666' : $Mode)
            [uint](stat -c %u -- $socket) | Should -Be ($Owner -and $self -eq 0 ? $Owner : $self)
        }
        finally {
            $job | Remove-Job -Force
        }
    }

    It 'turns away a user that is not allowed' {
        $job = Restore-CprState "unix:$socket" -AsJob -AllowUid 54321
        Send-Raw $socket
        $null = $job | Wait-Job -Timeout 60
        $job.Error[0].FullyQualifiedErrorId | Should -BeLike 'CprPeerNotAllowed*'
        $job.Error[0].CategoryInfo.Category | Should -Be PermissionDenied
    }

    It 'refuses a set with a key that is registered, closes what came and frees the sender' {
        $null = Register-CprFd a -MemFd mine -Size 4096
        $job = Restore-CprState "unix:$socket" -AsJob
        Send-Set "unix:$socket"
        $null = $job | Wait-Job -Timeout 60
        $job.Error[0].FullyQualifiedErrorId | Should -BeLike 'CprDuplicateEntry*'
        (Get-CprFd).Target | Should -Be '/memfd:mine (deleted)'
        # The sender's own two are left.
        @((Get-ChildItem /proc/self/fd).LinkTarget -match 'handed-').Count | Should -Be 2
    }

    It 'takes unix: endpoints only' {
        Assert-Failure (Get-Failure { Restore-CprState tcp:127.0.0.1:1 }) CprUnsupportedMode NotImplemented '*UNIX socket*' 'tcp:127.0.0.1:1'
    }

    It 'has nothing to take over with -ExecState when nothing was left' {
        Assert-Failure (Get-Failure { Restore-CprState -ExecState }) CprNothingToDo InvalidOperation '*QEMU_CPR_EXEC_STATE*' QEMU_CPR_EXEC_STATE
    }

    It 'listens nowhere with -WhatIf' {
        Restore-CprState "unix:$socket" -WhatIf
        $socket | Should -Not -Exist
    }

    It 'leaves nothing open when the module is removed' {
        $job = Restore-CprState "unix:$socket" -AsJob
        $shell = New-Shell '$null = Register-CprFd m -MemFd in-a-runspace -Size 4096; Remove-Module MigrationOps'
        $shells.Add($shell)
        $null = $shell.Invoke()
        (Get-ChildItem /proc/self/fd).LinkTarget -match 'in-a-runspace' | Should -BeNullOrEmpty
        $job | Stop-Job
    }
}
