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

    It 'is quiet on request' {
        Get-Item -LiteralPath $stream, "$vectors/vfio-2dev.main.stream" | Test-MigrationStream -Quiet | Should -Be $true, $false
    }
}
