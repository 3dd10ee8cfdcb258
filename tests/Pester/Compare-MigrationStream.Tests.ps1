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
        $found.Where({ $_.Device -eq 'hpet' }).Detail | Should -Match 'too new'

        # What lies on a bus has a device type, and this description has no other.
        $found.Where({ $_.Device -like '*/mch' }).Detail | Should -Match 'knows no device'
    }

    It 'refuses what is neither' {
        { Compare-MigrationStream $stream '{"x": 1}' -ErrorAction Stop } | Should -Throw -ErrorId 'StreamInvalidDescription,*'
    }

    It 'gives errors first, and one line for elements that say the same' {
        $found = @(Compare-MigrationStream "$vectors/q35-kvm.ignore-shared.stream" "$vectors/none-tcg.plain.stream")
        $severities = @($found.Severity | Select-Object -Unique)
        $severities[0] | Should -Be 'Error'
        $severities | Should -Be ('Error', 'Warning', 'Value').Where({ $_ -in $severities })
    }

    It 'shows the differences in 100 columns, broken at words' {
        $lines = (Compare-MigrationStream "$vectors/microvm-tcg.plain.stream" "$vectors/none-tcg.plain.stream" -IncludeValue |
                Out-String -Width 200).Split("`n").TrimEnd()
        ($lines | Measure-Object -Property Length -Maximum).Maximum | Should -BeLessOrEqual 100
        $lines[1] | Should -Match '^Severity +Device +Field +Detail$'
        ($lines -join ' ') -replace ' +', ' ' | Should -Match 'the machine type differs: microvm'
    }

    It 'compares what two QEMUs can load, by device type' {
        $first = '{"vmschkmachine": {"Name": "pc"}, "hpet": {"Name": "hpet", "version_id": 2, "minimum_version_id": 1, "Description": {"name": "hpet", "version_id": 2, "minimum_version_id": 1, "Fields": [{"field": "a", "version_id": 0, "field_exists": false, "size": 4}]}}, "igb": {"Name": "igb", "version_id": 1, "minimum_version_id": 1, "Description": {"name": "igb", "version_id": 1, "minimum_version_id": 1}}}'
        $second = '{"vmschkmachine": {"Name": "pc"}, "hpet": {"Name": "hpet", "version_id": 2, "minimum_version_id": 1, "Description": {"name": "hpet", "version_id": 2, "minimum_version_id": 1, "Fields": [{"field": "a", "version_id": 0, "field_exists": false, "size": 8}]}}}'
        Set-Content "$TestDrive/first.json" $first
        Set-Content "$TestDrive/second.json" $second
        $found = Compare-MigrationStream "$TestDrive/first.json" "$TestDrive/second.json"
        $found.Device | Should -Be 'hpet', 'igb'
        $found.Severity | Should -Be 'Error', 'Error'
        Compare-MigrationStream "$TestDrive/first.json" $first.Split("`n") | Should -BeNullOrEmpty
        # A release that skips bytes may read them under a name in another one; how many there are a description of 7.2 does not say.
        Set-Content "$TestDrive/skips.json" $first.Replace('"field": "a"', '"field": "unused", "num": 5').Replace('"size": 4', '"size": 1')
        Set-Content "$TestDrive/names.json" $first.Replace('"field": "a"', '"field": "pending"').Replace('"size": 4', '"size": 1')
        $names = Compare-MigrationStream "$TestDrive/skips.json" "$TestDrive/names.json"
        $names.Severity | Should -Be 'Warning'
        "$($names.Device) $($names.Reference) $($names.Difference)" | Should -Be 'hpet unused pending'
        { Compare-MigrationStream "$TestDrive/first.json" $stream -ErrorAction Stop } | Should -Throw -ErrorId 'StreamInvalidDescription,*'
    }
}
