<#
.SYNOPSIS
    Tells how to start another PowerShell like the one that runs this script.
.DESCRIPTION
    [Environment]::ProcessPath alone does not do. A PowerShell that was installed as a .NET tool is run by dotnet: what is
    called pwsh on PATH is a shim, which starts "dotnet pwsh.dll" and waits for it. A signal to that shim does not reach
    PowerShell (SIGINT is ignored; SIGTERM, SIGHUP and SIGKILL end the shim and leave PowerShell running), so the command
    that is returned leaves the shim out: the process that it starts is PowerShell itself.
.EXAMPLE
    $pwsh = ./tools/Get-PowerShellCommand.ps1; & $pwsh.Program $pwsh.Arguments -NoProfile -File other.ps1

    Runs a script in a fresh PowerShell of the same version.
.OUTPUTS
    An object with Program, a path, and Arguments, what comes before PowerShell's own arguments.
#>
[CmdletBinding()]
param()

$ErrorActionPreference = 'Stop'
$program = [Environment]::ProcessPath
$library = Join-Path -Path $PSHOME -ChildPath 'pwsh.dll'
switch ([IO.Path]::GetFileName($program)) {
    'pwsh' { [pscustomobject]@{ Program = $program; Arguments = [string[]]@() } }
    'dotnet' { [pscustomobject]@{ Program = $program; Arguments = [string[]]@($library) } }
    default { throw "Expected to run in pwsh or dotnet, found '$program'. Run this from pwsh." }
}
