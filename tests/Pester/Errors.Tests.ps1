BeforeDiscovery {
    $own = Get-ChildItem -Path "$PSScriptRoot/../../src/MigrationOps.PowerShell" -Filter *.cs -Recurse |
        Select-String -Pattern '"([A-Z]\w+)",\s*ErrorCategory\.(\w+)' |
        ForEach-Object { @{ Id = $_.Matches[0].Groups[1].Value; Category = $_.Matches[0].Groups[2].Value } }
}

BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    $catalogue = Get-Content -LiteralPath "$repository/docs/errors.md"
}

Describe 'docs/errors.md' {
    It 'gives every kind of failure the category that its error records have' {
        $map = (Get-Command -Name Get-VhostBackend).ImplementingType.Assembly.GetType('MigrationOps.PowerShell.Hosting.ErrorMap')
        $categoryOf = $map.GetMethod('CategoryOf', [Reflection.BindingFlags]'Static, NonPublic')
        foreach ($kind in [enum]::GetValues([MigrationOps.FailureKind])) {
            @($catalogue -like "| $kind | $($categoryOf.Invoke($null, @($kind))) | *").Count | Should -Be 1 -Because "$kind is in the first table"
        }
    }

    It 'is compared with the errors that cmdlets report by themselves, which the sources have' -TestCases @{ Found = $own.Count } {
        $Found | Should -BeGreaterOrEqual 2
    }

    It 'lists <Id>, which a cmdlet reports by itself' -ForEach $own {
        @($catalogue).Where({ $_.StartsWith("| ``$Id`` | $Category | ") }).Count | Should -Be 1
    }
}
