<#
.SYNOPSIS
    Tests for every VM of this host to which of several hosts it could be migrated.
.DESCRIPTION
    The script asks each of the hosts once, over PowerShell remoting by SSH, what it offers to a VM, and tests every VM that runs here against each of
    them. What comes out is a matrix: a row for each VM, a column for each host, with the worst that was found.

    Nothing is changed, on no VM and on no host. What could not be found out is Unknown, and never counted as good: a host that cannot be
    reached, a VM whose monitor another client holds.

    Each host needs sshd with PowerShell as a subsystem, and MigrationOps.
.EXAMPLE
    ./Test-HostEvacuation.ps1 -HostName kvm2, kvm3 -CsvPath ./kvm1.csv -HtmlPath ./kvm1.html | Format-Table

    Shows the matrix, and keeps it as a table for a spreadsheet and as a page with every finding.
.EXAMPLE
    $sessions = New-PSSession -HostName kvm2, kvm3 -UserName root
    $matrix = ./Test-HostEvacuation.ps1 -Session $sessions -Name web*, db*
    $matrix | Where-Object Targets -EQ 0 | ForEach-Object { $_.Reports.Checks } | Where-Object Status -EQ Blocker

    Tests some of the VMs over sessions that exist already, and lists what keeps those here that can go nowhere.
.EXAMPLE
    ./Test-HostEvacuation.ps1 -HostName kvm2 -MeasureDirtyRate -MaxBandwidth 1GB -DowntimeLimit 0.2

    Measures how fast each VM writes, too, so that the reports say how long the migrations take and whether they end.
.OUTPUTS
    For each VM an object with VM, a property for each host, Targets (how many hosts could take it) and Reports (those of Test-QemuMigration).
#>

#Requires -Version 7.6
#Requires -Modules MigrationOps
[CmdletBinding(DefaultParameterSetName = 'HostName')]
[OutputType([pscustomobject])]
param(
    # The hosts, as for New-PSSession -HostName: NAME or USER@NAME:PORT.
    [Parameter(Mandatory, Position = 0, ParameterSetName = 'HostName')]
    [ValidateNotNullOrEmpty()]
    [string[]] $HostName,

    # The key for them, if it is not ssh's own.
    [Parameter(ParameterSetName = 'HostName')]
    [string] $KeyFilePath,

    # Options for ssh, as for New-PSSession.
    [Parameter(ParameterSetName = 'HostName')]
    [hashtable] $SshOption = @{},

    # Sessions that exist already, instead. They stay open.
    [Parameter(Mandatory, ParameterSetName = 'Session')]
    [System.Management.Automation.Runspaces.PSSession[]] $Session,

    # The VMs of this host, by name; wildcards are allowed.
    [ValidateNotNullOrEmpty()]
    [string[]] $Name = '*',

    # Where the matrix goes as CSV.
    [string] $CsvPath,

    # Where it goes as a page with every finding.
    [string] $HtmlPath,

    # Measures each VM's dirty rate first, some six seconds for each.
    [switch] $MeasureDirtyRate,

    # What a migration may take, in bytes per second. Without it: what each QEMU is set to.
    [long] $MaxBandwidth,

    # The downtime that is allowed, in seconds or as a TimeSpan. Without it: what each QEMU is set to.
    [object] $DowntimeLimit,

    # The module's name or path on the hosts.
    [string] $Module = 'MigrationOps'
)

Set-StrictMode -Version 3
$ErrorActionPreference = 'Stop'

# One finding as a cell of the matrix: the status first, so that a column can be sorted.
function Get-Cell($Report) {
    $worst = $Report.Checks | Sort-Object -Property Status -Descending -Stable | Select-Object -First 1
    if (-not $worst -or $worst.Status -in 'Passed', 'Info') { return 'OK' }
    "$($worst.Status) $($worst.Name): $($worst.Detail)"
}

function ConvertTo-HtmlText([object] $Value) { [Net.WebUtility]::HtmlEncode("$Value") }

function Get-Page([object[]] $Matrix, [string[]] $Columns) {
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Evacuation of {0}</title>' -f (ConvertTo-HtmlText ([Environment]::MachineName))
    '<style>body{font-family:sans-serif}table{border-collapse:collapse}td,th{border:1px solid #888;padding:.3em;text-align:left;vertical-align:top}' +
    '.OK{background:#dfd}.Warning{background:#ffd}.Unknown{background:#eee}.Blocker{background:#fdd}</style></head><body>'
    '<h1>Evacuation of {0}</h1><p>{1:u}</p>' -f (ConvertTo-HtmlText ([Environment]::MachineName)), [datetime]::UtcNow
    '<table><tr><th>VM</th>{0}</tr>' -f (($Columns | ForEach-Object { "<th>$(ConvertTo-HtmlText $_)</th>" }) -join '')
    foreach ($row in $Matrix) {
        $cells = foreach ($column in $Columns) { '<td class="{0}">{1}</td>' -f ("$($row.$column)" -split ' ')[0], (ConvertTo-HtmlText $row.$column) }
        '<tr><th>{0}</th>{1}</tr>' -f (ConvertTo-HtmlText $row.VM), ($cells -join '')
    }
    '</table>'
    foreach ($row in $Matrix) {
        foreach ($report in $row.Reports) {
            '<h2>{0} to {1}</h2>' -f (ConvertTo-HtmlText $row.VM), (ConvertTo-HtmlText $report.Target)
            if ($report.Estimate) { '<p>{0}</p>' -f (ConvertTo-HtmlText $report.Estimate) }
            '<table><tr><th>Status</th><th>Check</th><th>Here</th><th>There</th><th>Finding</th><th>What to do</th></tr>'
            foreach ($check in $report.Checks | Where-Object Status -NE Passed | Sort-Object -Property Status -Descending -Stable) {
                $cells = $check.Status, $check.Name, $check.Source, $check.Target, $check.Detail, $check.RecommendedAction | ForEach-Object { "<td>$(ConvertTo-HtmlText $_)</td>" }
                '<tr class="{0}">{1}</tr>' -f $check.Status, ($cells -join '')
            }
            '</table>'
        }
    }
    '</body></html>'
}

$own = [Collections.Generic.List[object]]::new()
try {
    # 1. What each host offers. One that does not answer is a column of Unknown.
    $hosts = [ordered]@{}
    $targets = if ($Session) { $Session } else { $HostName }
    foreach ($target in $targets) {
        $column = if ($Session) { $target.ComputerName } else { $target }
        if ($hosts.Contains($column)) { $column = "$column ($($hosts.Count + 1))" }
        try {
            $open = $target
            if (-not $Session) {
                $key = $KeyFilePath ? @{ KeyFilePath = $KeyFilePath } : @{}
                $open = New-PSSession -HostName $target -Options $SshOption @key
                $own.Add($open)
            }
            $hosts[$column] = Invoke-Command -Session $open -ScriptBlock { Import-Module -Name $using:Module; Get-QemuHost }
        }
        catch {
            $hosts[$column] = "Unknown host: $($_.Exception.Message)"
        }
    }

    # 2. Each VM against each of them.
    $options = @{}
    if ($MaxBandwidth) { $options.MaxBandwidth = $MaxBandwidth }
    if ($null -ne $DowntimeLimit) { $options.DowntimeLimit = $DowntimeLimit }
    $vms = @(Find-QemuVM -Name $Name | Where-Object { -not $_.Incoming })
    $done = 0
    $matrix = foreach ($vm in $vms) {
        $label = $vm.Name ? $vm.Name : "process $($vm.ProcessId)"
        Write-Progress -Activity 'Evacuation' -Status $label -PercentComplete (100 * $done++ / $vms.Count)
        $row = [ordered]@{ VM = $label }
        $reports = [Collections.Generic.List[object]]::new()
        $monitor = $problem = $null
        try {
            $monitor = $vm | Connect-QemuMonitor -ReadOnly
            if ($MeasureDirtyRate) { $options.DirtyRate = $monitor | Measure-QemuDirtyRate }
        }
        catch {
            $problem = "Unknown VM: $($_.Exception.Message)"
        }
        try {
            foreach ($column in $hosts.Keys) {
                if ($problem) { $row[$column] = $problem; continue }
                if ($hosts[$column] -is [string]) { $row[$column] = $hosts[$column]; continue }
                try {
                    $report = $monitor | Test-QemuMigration -Target $hosts[$column] @options
                    $reports.Add($report)
                    $row[$column] = Get-Cell $report
                }
                catch {
                    $row[$column] = "Unknown test: $($_.Exception.Message)"
                }
            }
        }
        finally {
            if ($monitor) { $monitor | Disconnect-QemuMonitor }
        }
        $row.Targets = @($reports | Where-Object CanMigrate).Count
        $row.Reports = $reports.ToArray()
        [pscustomobject]$row
    }
    Write-Progress -Activity 'Evacuation' -Completed

    # 3. The matrix, where it is wanted.
    $matrix
    if ($CsvPath) { $matrix | Select-Object -ExcludeProperty Reports | Export-Csv -LiteralPath $CsvPath }
    if ($HtmlPath) { Get-Page @($matrix) @($hosts.Keys) | Set-Content -LiteralPath $HtmlPath }
}
finally {
    if ($own.Count) { Remove-PSSession -Session $own.ToArray() }
}
