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

    # The Pester to run with: a manifest. Without it the newest one that is installed, else one that "dotnet restore" brought.
    [string] $Pester,

    # Where the records go.
    [string] $ResultPath
)

$ErrorActionPreference = 'Stop'
if (-not $Pester) {
    $installed = Get-Module -Name Pester -ListAvailable | Where-Object { $_.Version -ge '5.9' -and $_.Version -lt '7.0' } | Select-Object -First 1
    $packages = $env:NUGET_PACKAGES ? $env:NUGET_PACKAGES : "$HOME/.nuget/packages"
    $restored = Get-Item -Path "$packages/pester/*/tools/Pester.psd1" -ErrorAction Ignore | Sort-Object -Property FullName -Bottom 1
    $Pester = $installed ? $installed.Path : $restored ? $restored.FullName : $(
        throw "Expected Pester 5.9 to 6.x, found none. Run: dotnet restore $(Resolve-Path "$PSScriptRoot/../..")")
}

$loaded = Import-Module -Name $Pester -PassThru

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
    @{ tests = $tests; broken = $broken; pester = $loaded.Version.ToString() } | ConvertTo-Json -Depth 4 | Set-Content -LiteralPath $ResultPath
}

exit $run.FailedCount + $broken.Count
