BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    $vectors = "$repository/tests/MigrationOps.Engine.Tests/Vectors/Streams"
    $stream = "$vectors/small.stream"
}

Describe 'Compare-MigrationStream' {
    It 'finds nothing between a stream and itself' {
        Compare-MigrationStream $stream $stream -IncludeValue | Should -BeNullOrEmpty
    }

    It 'names what differs' {
        $found = Compare-MigrationStream "$vectors/microvm-tcg.plain.stream" "$vectors/none-tcg.plain.stream"
        $found.Where({ $_.Severity -eq 'Error' }).Field | Should -Contain 'machine type'
        $found.Where({ $_.Field -eq 'm0' }).Difference | Should -Be '0x800000 bytes'
    }

    It 'takes a device description as the lines that a program printed' {
        $dump = '{"vmschkmachine": {"Name": "pc-q35-10.0"},', '"hpet": {"Name": "hpet", "version_id": 1, "minimum_version_id": 1, "Description":',
            '{"name": "hpet", "version_id": 1, "minimum_version_id": 1, "Fields": []}}}'
        $found = @(Compare-MigrationStream $stream $dump)
        $found.Count | Should -Be 1
        $found[0].Device | Should -Be 'hpet'
        $found[0].Detail | Should -Match 'too new'
    }

    It 'refuses what is neither' {
        { Compare-MigrationStream $stream '{"x": 1}' -ErrorAction Stop } | Should -Throw -ErrorId 'StreamInvalidDescription,*'
    }
}
