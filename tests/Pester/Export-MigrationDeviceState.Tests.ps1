BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    $vectors = "$repository/tests/MigrationOps.Engine.Tests/Vectors/Streams"
    $stream = "$vectors/small.stream"

    # A copy of a stream that ends too early.
    function New-CutStream([string] $Source, [long] $Length) {
        $path = Join-Path -Path $TestDrive -ChildPath 'cut.stream'
        $bytes = [IO.File]::ReadAllBytes($Source)
        [IO.File]::WriteAllBytes($path, $bytes[0..($Length - 1)])
        $path
    }
}

Describe 'Export-MigrationDeviceState' {
    It 'takes a back-end''s state out, in a file that binds to the next cmdlet' {
        $export = Export-MigrationDeviceState -Path $stream -Device *vhost-user-fs -Destination $TestDrive
        $export.Kind | Should -Be 'vhost-user'
        ($export | Test-DeviceState).Passed | Should -BeTrue
        $socket = Join-Path -Path $TestDrive -ChildPath 'b.sock'
        $null = Start-VhostBackend -SocketPath $socket -State ([IO.File]::ReadAllBytes("$vectors/small.backend-state.bin"))
        try {
            $loaded = $export | Start-VhostStateRestore -SocketPath $socket
            $loaded.Checked | Should -BeTrue
            $loaded.Bytes | Should -Be 108
        } finally {
            Stop-VhostBackend -SocketPath $socket
        }
    }

    It 'writes bare bytes on request' {
        $export = Export-MigrationDeviceState -Path $stream -Device *vhost-user-fs -Destination "$TestDrive/raw" -Raw
        (Get-FileHash -LiteralPath $export.Path).Hash | Should -Be (Get-FileHash -LiteralPath "$vectors/small.backend-state.bin").Hash
    }

    It 'writes a block of memory' {
        $export = Export-MigrationDeviceState -Path "$vectors/microvm-tcg.plain.stream" -Ram m0 -Destination "$TestDrive/m0.ram"
        $export.Bytes | Should -Be 32MB
        (Get-Item -LiteralPath $export.Path).Length | Should -Be 32MB
    }

    It 'does nothing with -WhatIf' {
        Export-MigrationDeviceState -Path $stream -Device *vhost-user-fs -Destination "$TestDrive/nothing" -WhatIf | Should -BeNullOrEmpty
        "$TestDrive/nothing" | Should -Not -Exist
    }

    It 'leaves no file behind when the stream is damaged' {
        { Export-MigrationDeviceState -Path (New-CutStream $stream 200000) -Device *vhost-user-fs -Destination "$TestDrive/broken" -ErrorAction Stop } |
            Should -Throw -ErrorId 'StreamTruncated,*'
        Get-ChildItem -LiteralPath $TestDrive -Filter 'broken*' | Should -BeNullOrEmpty
    }
}
