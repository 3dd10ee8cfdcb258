BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Start-VhostBackend' {
    AfterEach {
        Stop-StartedBackend
    }

    It 'listens at once, with a state of the given size' {
        $backend = Start-Backend -Size 5MB
        $backend | Should -BeOfType MigrationOps.EmbeddedVhostBackend
        $backend.IsRunning | Should -BeTrue
        $backend.Connections | Should -Be 0
        $backend.Fault | Should -Be None
        $backend.SocketPath | Should -Exist
        (Start-VhostStateSave $backend.SocketPath "$TestDrive/a.state").Bytes | Should -Be 5MB
        $backend.Connections | Should -Be 1
    }

    It 'has a mebibyte of state by default' {
        (Start-VhostStateSave (Start-Backend).SocketPath "$TestDrive/a.state").Bytes | Should -Be 1MB
    }

    It 'keeps its state in the file of -StatePath' {
        [IO.File]::WriteAllText("$TestDrive/kept", 'one')
        $backend = Start-Backend -StatePath "$TestDrive/kept"
        (Start-VhostStateSave $backend.SocketPath "$TestDrive/a.state").Bytes | Should -Be 3
        [IO.File]::WriteAllText("$TestDrive/new.raw", 'three')
        $null = Start-VhostStateRestore $backend.SocketPath "$TestDrive/new.raw" -Raw
        [IO.File]::ReadAllText("$TestDrive/kept") | Should -Be 'three'
    }

    It 'keeps its old state when a load fails' {
        [IO.File]::WriteAllText("$TestDrive/kept", 'one')
        [IO.File]::WriteAllText("$TestDrive/new.raw", 'three')
        $backend = Start-Backend -StatePath "$TestDrive/kept" -Fault FailAtByte -FaultByte 2
        $null = Get-Failure { Start-VhostStateRestore $backend.SocketPath "$TestDrive/new.raw" -Raw }
        [IO.File]::ReadAllText("$TestDrive/kept") | Should -Be 'one'
        Get-ChildItem -LiteralPath $TestDrive -Force -Filter '*.part' | Should -BeNullOrEmpty
    }

    It 'lets in the users that -SocketMode and -SocketGroup say' {
        $group = (Get-Content -LiteralPath /etc/group | Where-Object { $_ -match ":$(id -g):" } | Select-Object -First 1).Split(':')[0]
        $backend = Start-Backend -SocketMode 0660 -SocketGroup $group
        stat -c %a -- $backend.SocketPath | Should -Be 660
        stat -c %G -- $backend.SocketPath | Should -Be $group
        stat -c %a -- (Start-Backend -SocketMode 0666).SocketPath | Should -Be 666
    }

    It 'names a group that is not there, and leaves nothing' {
        $path = New-SocketPath
        (Get-Failure { Start-VhostBackend $path -SocketGroup no-such-group }).Exception.ErrorId | Should -Be 'WireNotFound'
        $path | Should -Not -Exist
    }

    It 'takes a path relative to the current location' {
        Push-Location -LiteralPath $TestDrive
        try {
            $backend = Start-VhostBackend ./relative.sock
        }
        finally {
            Pop-Location
        }

        $backend.SocketPath | Should -Be "$TestDrive/relative.sock"
        $backend | Stop-VhostBackend
    }

    It 'starts nothing with -WhatIf' {
        $path = New-SocketPath
        Start-VhostBackend $path -WhatIf | Should -BeNullOrEmpty
        $path | Should -Not -Exist
    }

    It 'does not take a path that is in use' {
        $path = (Start-Backend).SocketPath
        Assert-Failure (Get-Failure { Start-VhostBackend $path }) WireListenFailed ConnectionError '*in use*' "unix:$path"
    }

    It 'does not take a path in a directory that does not exist' {
        $failure = Get-Failure { Start-VhostBackend "$TestDrive/none/a.sock" }
        $failure.FullyQualifiedErrorId | Should -BeLike 'WireListenFailed,*'
        $failure.ErrorDetails.RecommendedAction | Should -Not -BeNullOrEmpty
    }

    It 'does not take a path that is too long for a socket' {
        (Get-Failure { Start-VhostBackend ('/tmp/' + 'x' * 200) }).FullyQualifiedErrorId | Should -BeLike 'WireInvalidEndpoint,*'
    }

    It 'does not take <Name>' -ForEach @(
        @{ Name = 'a negative size'; Parameters = @{ Size = -1 } }
        @{ Name = 'an unknown fault'; Parameters = @{ Fault = 'Explode' } }
        @{ Name = 'an unknown request'; Parameters = @{ Fault = 'NoReply'; FaultRequest = 'Whatever' } }
        @{ Name = 'a negative byte'; Parameters = @{ FaultByte = -1 } }
    ) {
        $path = New-SocketPath
        (Get-Failure { Start-VhostBackend $path @Parameters }).CategoryInfo.Category | Should -BeIn InvalidData, InvalidArgument
        $path | Should -Not -Exist
    }

    It 'completes the values of -<Parameter>' -ForEach @(
        @{ Parameter = 'Fault'; Word = 'F'; Expected = 'FailAtByte', 'FailCheck' }
        @{ Parameter = 'FaultRequest'; Word = 'Check'; Expected = 'CheckDeviceState' }
    ) {
        $line = "Start-VhostBackend -SocketPath x -$Parameter $Word"
        (TabExpansion2 -inputScript $line -cursorColumn $line.Length).CompletionMatches.CompletionText | Should -Be $Expected
    }

    It 'leaves no descriptor and no thread behind after a hundred starts and stops' {
        1..3 | ForEach-Object { Start-VhostBackend (New-SocketPath) | Stop-VhostBackend }
        $descriptors = (Get-ChildItem /proc/self/fd).Count
        1..100 | ForEach-Object { Start-VhostBackend (New-SocketPath) | Stop-VhostBackend }
        (Get-ChildItem /proc/self/fd).Count | Should -BeLessOrEqual ($descriptors + 5)
        Get-ChildItem -Path "$TestDrive/*.sock" | Should -BeNullOrEmpty
        (Get-ChildItem /proc/self/task | Get-Content -Path { "$($_.FullName)/comm" }) -like 'vhost-user*' | Should -BeNullOrEmpty
    }
}
