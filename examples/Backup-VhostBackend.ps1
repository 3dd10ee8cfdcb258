<#
.SYNOPSIS
    Saves the state of a vhost-user back-end and proves that the copy can be loaded.
.DESCRIPTION
    A backup counts only once it was restored. This runbook saves the back-end's state into a file, reads the whole file
    back, loads it into a scratch back-end of the same program and version, and writes a report. It stops at the first
    step that fails, with an error that says which step it was; the report tells how far it came.

    Some back-ends serve one connection and end when it closes (virtiofsd), or end after their state was saved (passt).
    So the source is asked exactly once, by the save itself. Use it where the virtual machine is stopped, or where you
    have started the back-end for this purpose.
.PARAMETER SocketPath
    The socket of the back-end whose state is to be kept.
.PARAMETER ScratchSocketPath
    The socket of a back-end into which the state is loaded as a proof. It must be one that is not in use; what it held is
    gone afterwards.
.PARAMETER Path
    The state file. Its manifest is written beside it, as FILE.json.
.PARAMETER ReportPath
    The report, in Markdown. Without it: beside the state file, as FILE.report.md.
.PARAMETER Timeout
    How long a back-end may be silent, in seconds or as a TimeSpan.
.EXAMPLE
    ./Backup-VhostBackend.ps1 -SocketPath /run/vfs0.sock -ScratchSocketPath /run/scratch.sock -Path /backup/vfs0.state

    Saves, verifies and restores, and returns an object with the paths, the size and the SHA-256.
.EXAMPLE
    Import-Csv ./back-ends.csv | ForEach-Object { ./Backup-VhostBackend.ps1 -SocketPath $_.Socket -ScratchSocketPath $_.Scratch -Path $_.File -ErrorAction Continue }

    Keeps the states of many back-ends; one that fails does not stop the others.
.OUTPUTS
    An object with Device, SocketPath, Path, ReportPath, Bytes, Sha256, SavedIn, RestoredIn and Passed.
#>
#Requires -Version 7.6
#Requires -Modules MigrationOps
[CmdletBinding(SupportsShouldProcess)]
[OutputType([pscustomobject])]
param(
    [Parameter(Mandatory, Position = 0)]
    [ValidateNotNullOrEmpty()]
    [string] $SocketPath,

    [Parameter(Mandatory, Position = 1)]
    [ValidateNotNullOrEmpty()]
    [string] $ScratchSocketPath,

    [Parameter(Mandatory, Position = 2)]
    [ValidateNotNullOrEmpty()]
    [string] $Path,

    [ValidateNotNullOrEmpty()]
    [string] $ReportPath = "$Path.report.md",

    [ValidateNotNull()]
    [object] $Timeout = 30
)

$steps = [Collections.Generic.List[object]]::new()
$saved = $null
$restored = $null
$failure = $null

# Runs a step, keeps its outcome for the report, and names the step in the error that ends the runbook.
function Invoke-Step {
    param([string] $Name, [scriptblock] $Action, [scriptblock] $Describe)
    Write-Verbose -Message $Name
    try {
        $result = & $Action
        $steps.Add([pscustomobject]@{ Name = $Name; Outcome = 'passed'; Detail = $result | ForEach-Object -Process $Describe })
        $result
    }
    catch {
        $steps.Add([pscustomobject]@{ Name = $Name; Outcome = 'FAILED'; Detail = $_.Exception.Message })
        throw
    }
}

function Format-Report {
    "# State of $SocketPath"
    ''
    "- Outcome: **$($failure ? 'FAILED' : 'passed')** at $([DateTimeOffset]::Now.ToString('u'))"
    if ($saved) {
        "- Back-end: $($saved.Device)"
        "- File: $($saved.Path)"
        "- Size: $($saved.Bytes.ToString('N0')) bytes"
        "- SHA-256: $($saved.Sha256)"
    }

    ''
    '| Step | Outcome | Detail |'
    '| --- | --- | --- |'
    foreach ($step in $steps) {
        "| $($step.Name) | $($step.Outcome) | $($step.Detail -replace '\|', '\|' -replace '\r?\n', ' ') |"
    }

    if ($failure.ErrorDetails.RecommendedAction) {
        ''
        "What to do: $($failure.ErrorDetails.RecommendedAction)"
    }
}

$samePath = $PSCmdlet.GetUnresolvedProviderPathFromPSPath($SocketPath) -eq $PSCmdlet.GetUnresolvedProviderPathFromPSPath($ScratchSocketPath)
if ($samePath) {
    $PSCmdlet.ThrowTerminatingError([Management.Automation.ErrorRecord]::new(
            [ArgumentException]::new("The scratch back-end '$ScratchSocketPath' is the back-end itself; its state would be replaced."),
            'ScratchIsSource', 'InvalidArgument', $ScratchSocketPath))
}

if (-not $PSCmdlet.ShouldProcess($SocketPath, "Save the state to $Path, and replace that of the scratch back-end $ScratchSocketPath")) {
    return
}

try {
    $saved = Invoke-Step 'Save' -Action {
        Start-VhostStateSave -SocketPath $SocketPath -Path $Path -Timeout $Timeout -Confirm:$false -ErrorAction Stop
    } -Describe {
        '{0:N0} bytes in {1:0.000} s, {2}' -f $_.Bytes, $_.Duration.TotalSeconds, ($_.Checked ? 'the back-end reports success' : 'not checked')
    }

    $null = Invoke-Step 'Verify' -Action {
        $report = $saved | Test-DeviceState -ErrorAction Stop
        if (-not $report.Passed) {
            $failed = $report.Checks | Where-Object -Not -Property Passed | Select-Object -First 1
            $record = [Management.Automation.ErrorRecord]::new([IO.InvalidDataException]::new($failed.Detail), "Verify$($failed.Name)", 'InvalidData', $saved.Path)
            $record.ErrorDetails = [Management.Automation.ErrorDetails]::new($failed.Detail)
            $record.ErrorDetails.RecommendedAction = $failed.RecommendedAction
            throw $record
        }

        $report
    } -Describe { "$($_.Checks.Count) checks: $($_.Checks.Name -join ', ')" }

    $restored = Invoke-Step 'Restore into the scratch back-end' -Action {
        $saved | Start-VhostStateRestore -SocketPath $ScratchSocketPath -Timeout $Timeout -Confirm:$false -ErrorAction Stop
    } -Describe {
        '{0:N0} bytes in {1:0.000} s into {2}, {3}' -f $_.Bytes, $_.Duration.TotalSeconds, $_.Device, ($_.Checked ? 'which reports success' : 'not checked')
    }

    $null = Invoke-Step 'Compare' -Action {
        if ($restored.Sha256 -ne $saved.Sha256 -or $restored.Bytes -ne $saved.Bytes) {
            throw "Restored were $($restored.Bytes) bytes with the SHA-256 $($restored.Sha256)."
        }

        $restored
    } -Describe { "the same $($_.Bytes.ToString('N0')) bytes, SHA-256 $($_.Sha256)" }
}
catch {
    $failure = $_
}

# The report is what remains of a night's run, so it is written for a failure too.
Format-Report | Set-Content -LiteralPath $ReportPath -Confirm:$false -WhatIf:$false
if ($failure) {
    $record = [Management.Automation.ErrorRecord]::new(
        [InvalidOperationException]::new("$($steps[-1].Name) failed: $($failure.Exception.Message) The report is '$ReportPath'.", $failure.Exception),
        $failure.FullyQualifiedErrorId.Split(',')[0], $failure.CategoryInfo.Category, $failure.TargetObject)
    $record.ErrorDetails = [Management.Automation.ErrorDetails]::new($record.Exception.Message)
    $record.ErrorDetails.RecommendedAction = $failure.ErrorDetails.RecommendedAction
    $PSCmdlet.WriteError($record)
    # As a program (pwsh -File) it says so with its exit code too.
    exit 1
}

[pscustomobject]@{
    Device     = $saved.Device
    SocketPath = $saved.SocketPath
    Path       = $saved.Path
    ReportPath = $PSCmdlet.GetUnresolvedProviderPathFromPSPath($ReportPath)
    Bytes      = $saved.Bytes
    Sha256     = $saved.Sha256
    SavedIn    = $saved.Duration
    RestoredIn = $restored.Duration
    Passed     = $true
}
