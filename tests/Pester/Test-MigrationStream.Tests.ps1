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

Describe 'Test-MigrationStream' {
    It 'passes a whole stream' {
        $report = Test-MigrationStream -Path $stream
        $report.Passed | Should -BeTrue
        $report.Checks.Name | Should -Contain 'BackendState'
    }

    It 'fails a cut one without an error' {
        $report = Test-MigrationStream -Path (New-CutStream $stream 200000)
        $report.Passed | Should -BeFalse
        $report.Checks.Where({ -not $_.Passed }).Name | Should -Be 'Structure'
        $report.Checks.Where({ -not $_.Passed }).RecommendedAction | Should -Not -BeNullOrEmpty
    }

    It 'answers for what is no stream, and says what it is' {
        $path = Join-Path -Path $TestDrive -ChildPath 'core.elf'
        [IO.File]::WriteAllBytes($path, [byte[]](0x7f, 0x45, 0x4c, 0x46, 2, 1, 1) + [byte[]]::new(9) + [byte[]](4, 0))
        Test-MigrationStream -Path $path -Quiet | Should -BeFalse
        (Test-MigrationStream -Path $path).Checks[0].Detail | Should -BeLike '*ELF core file*'
        Set-Content -LiteralPath $path -Value ''
        Test-MigrationStream -Path $path -Quiet | Should -BeFalse
        { Test-MigrationStream -Path "$TestDrive/nothing" -Quiet -ErrorAction Stop } | Should -Throw -ErrorId 'WireNotFound*'
    }

    It 'calls nothing damaged that only lacks something' {
        $report = Test-MigrationStream -Path "$vectors/pc-2.2.stream"
        $report.Checks.Where({ -not $_.Passed }).Name | Should -Be 'Description'
        "$($report.Checks.Detail) $($report.Checks.RecommendedAction)" | Should -Not -Match 'damage|do not load'
    }

    It 'passes a stream with something behind it, and counts that' {
        $path = Join-Path -Path $TestDrive -ChildPath 'volume.raw'
        [IO.File]::WriteAllBytes($path, [IO.File]::ReadAllBytes($stream) + [byte[]]::new(5000))
        $report = Test-MigrationStream -Path $path
        $report.Passed | Should -BeTrue
        $report.Checks.Where({ $_.Name -eq 'TrailingBytes' }).Detail | Should -BeLike '5,000 bytes follow the stream (all zero)*'
        (Get-MigrationStream -Path $path).TrailingBytes | Should -Be 5000
    }

    It 'is quiet on request' {
        Get-Item -LiteralPath $stream, "$vectors/vfio-2dev.main.stream" | Test-MigrationStream -Quiet | Should -Be $true, $false
    }
}
