<#
.SYNOPSIS
    Runs the Pester suite and writes one record per test to a JSON file.
.DESCRIPTION
    To be run in a pwsh of its own, because a module's assemblies cannot be unloaded. Without -ResultPath it is the way to
    run the suite by hand: the outcome stands on the console, and the exit code is the number of failures.
.EXAMPLE
    pwsh -NoProfile -File tests/Pester/Invoke-Suite.ps1 -Filter '*Timeout*'
#>
[CmdletBinding()]
param(
    # The test files, or a folder with them.
    [string[]] $Path = $PSScriptRoot,

    # Full names of tests to run, with wildcards; all without it.
    [string[]] $Filter = @(),

    # Where the records go.
    [string] $ResultPath
)

$ErrorActionPreference = 'Stop'
Import-Module -Name Pester -MinimumVersion 5.3 -MaximumVersion 5.999

$configuration = New-PesterConfiguration
$configuration.Run.Path = $Path
$configuration.Run.PassThru = $true
$configuration.Run.Exit = $false
$configuration.Output.Verbosity = $ResultPath ? 'None' : 'Detailed'
if ($Filter) {
    $configuration.Filter.FullName = $Filter
}

$run = Invoke-Pester -Configuration $configuration
$describe = {
    param($Record)
    # Where the suite stands in the trace is of interest, how Pester called it is not.
    ($Record | ForEach-Object { $_.Exception.Message; $_.ScriptStackTrace.Split("`n") -notmatch 'Pester\.psm?1|Invoke-Suite' }) -join "`n"
}

# A set-up or tear-down that breaks is no test's failure. (A block is also called failed when one of its tests is.)
$broken = @($run.FailedBlocks | Where-Object -Property ErrorRecord | ForEach-Object { @{ name = $_.ExpandedPath; error = & $describe $_.ErrorRecord } }
    $run.FailedContainers | ForEach-Object { @{ name = [string]$_.Item; error = & $describe $_.ErrorRecord } })
$tests = @($run.Tests | Where-Object -Property Result -NE -Value 'NotRun' | ForEach-Object {
        @{
            file     = Split-Path -Path $_.ScriptBlock.File -Leaf
            name     = $_.ExpandedPath
            result   = $_.Result
            duration = $_.Duration.TotalSeconds
            error    = & $describe $_.ErrorRecord
        }
    })
if ($ResultPath) {
    @{ tests = $tests; broken = $broken } | ConvertTo-Json -Depth 4 | Set-Content -LiteralPath $ResultPath
}

exit $run.FailedCount + $broken.Count
