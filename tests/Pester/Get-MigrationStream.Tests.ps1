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

Describe 'Get-MigrationStream' {
    It 'gives an overview' {
        $info = Get-MigrationStream -Path $stream
        $info.MachineType | Should -Be 'pc-q35-10.0'
        $info.Complete | Should -BeTrue
        $info.Capabilities | Should -Be 'x-ignore-shared'
        $info.Sections[0].IdStr | Should -Be 'ram'
        $info.RamBlocks.Name | Should -Contain 'm0'
        $info.Devices.IdStr | Should -Contain '0000:00:01.0/vhost-user-fs'
        $info.Commands.Name | Should -Be 'SwitchoverStart'
    }

    It 'decodes a device as a tree of named values' {
        $device = Get-MigrationStream -Path $stream -Device *vhost-user-fs
        $device['virtio']['status'].Meaning | Should -Match 'DRIVER_OK'
        $device['vhost-user-fs-backend']['back-end'].Fields[0].Size | Should -Be 108
        ($device | Out-String) | Should -Match 'guest_features = \d+ \(.*VERSION_1'
    }

    It 'takes several patterns' {
        (Get-MigrationStream -Path "$vectors/none-tcg.plain.stream" -Device timer, global*).IdStr | Should -Be 'timer', 'globalstate'
    }

    It 'gives with -Json what the script gives' {
        Get-MigrationStream -Path "$vectors/microvm-tcg.plain.stream" -Json |
            Should -BeExactly (Get-Content -LiteralPath "$vectors/microvm-tcg.plain.stream.analyze.json" -Raw).TrimEnd("`n")
    }

    It 'gives the description' {
        (Get-MigrationStream -Path $stream -Description | ConvertFrom-Json).page_size | Should -Be 4096
    }

    It 'shows the run state as a text' {
        (Get-MigrationStream -Path $stream -Device globalstate)['runstate'].Value | Should -Be 'paused'
    }

    It 'notes what a stream of an old machine lacks' {
        $info = Get-MigrationStream -Path "$vectors/pc-2.2.stream"
        $info.Complete | Should -BeTrue
        $info.Devices.Count | Should -Be 29
        $info.Notes -join ' ' | Should -Match 'no footers'
        $info | Format-List | Out-String | Should -Match 'no footers'
    }

    It 'shows what a cut stream has, with the byte at which it ends' {
        $info = Get-MigrationStream -Path (New-CutStream $stream 200000) -ErrorAction SilentlyContinue -ErrorVariable problem
        $info.Complete | Should -BeFalse
        $info.FailureOffset | Should -Be 200000
        $problem[0].FullyQualifiedErrorId | Should -BeLike 'StreamTruncated,*'
        $problem[0].Exception.ByteOffset | Should -Be 200000
        $problem[0].ErrorDetails.RecommendedAction | Should -Not -BeNullOrEmpty
    }

    It 'continues with the next stream after one that is none' {
        $found = Get-Item -LiteralPath "$vectors/none-tcg.plain.stream.analyze.json", $stream |
            Get-MigrationStream -ErrorAction SilentlyContinue -ErrorVariable problem
        $found.Count | Should -Be 1
        $problem[0].FullyQualifiedErrorId | Should -BeLike 'StreamNotAStream,*'
    }

    It 'names a device that is not there' {
        { Get-MigrationStream -Path $stream -Device nothing* -ErrorAction Stop } | Should -Throw -ErrorId 'StreamNotFound,*'
    }

    It 'reads a named pipe' {
        $pipe = Join-Path -Path $TestDrive -ChildPath 'pipe'
        mkfifo $pipe
        $writer = [Diagnostics.Process]::Start('sh', [string[]]('-c', "exec cat '$stream' > '$pipe'"))
        (Get-MigrationStream -Path $pipe -Device *vhost-user-fs).Layout | Should -Be 'vhost-user-fs'
        $writer.WaitForExit()
    }

    It 'gives up a named pipe without a writer' {
        $pipe = Join-Path -Path $TestDrive -ChildPath 'silent'
        mkfifo $pipe
        { Get-MigrationStream -Path $pipe -Timeout 0.3 -ErrorAction Stop } | Should -Throw -ErrorId 'WireTimeout,*'
    }

    It 'keeps to the memory that it is given' {
        # Nothing but a description of two million bytes.
        $json = [Text.Encoding]::ASCII.GetBytes('{"page_size":4096,"devices":[]}'.PadRight(2MB))
        [IO.File]::WriteAllBytes("$TestDrive/long.stream", [byte[]] (0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3, 0, 6, 0, 0x20, 0, 0) + $json)
        (Get-MigrationStream -Path "$TestDrive/long.stream" -ErrorAction Stop).Complete | Should -BeTrue
        { Get-MigrationStream -Path "$TestDrive/long.stream" -MaxMemory 1MB -ErrorAction Stop } | Should -Throw -ErrorId 'StreamLimitExceeded,*'
    }
}
