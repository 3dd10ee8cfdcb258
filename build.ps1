#Requires -Version 7.4
<#
.SYNOPSIS
    Builds, tests and packs MigrationOps.
.DESCRIPTION
    Build lays the module out in output/MigrationOps/<version>, with its help; a release also has its assemblies compiled ahead of time for
    x64, in bin/x64, beside those that run everywhere. Test runs every test that can run on this
    machine. Package makes output/MigrationOps.<version>.zip: unpacked into a folder of $env:PSModulePath it is installed.
    Publish-PSResource -Path output/MigrationOps/<version> brings the same folder to a gallery.
.EXAMPLE
    ./build.ps1

    Builds the module.
.EXAMPLE
    ./build.ps1 -Task Build, Test, Package -Configuration Release

    What a release goes through.
#>
[CmdletBinding()]
param(
    [Parameter(Position = 0)]
    [ArgumentCompletions('Build', 'Test', 'Package')]
    [string[]] $Task = 'Build',

    [ValidateSet('Debug', 'Release')]
    [string] $Configuration = 'Release'
)

$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $true
Set-StrictMode -Version 3
$version = (Import-PowerShellDataFile -LiteralPath "$PSScriptRoot/module/MigrationOps.psd1").ModuleVersion
$output = Join-Path -Path $PSScriptRoot -ChildPath 'output'
$layout = Join-Path -Path $output -ChildPath "MigrationOps/$version"

function Invoke-Build {
    # What an earlier build left would be packed too.
    Remove-Item -LiteralPath $layout -Recurse -Force -ErrorAction Ignore
    $project = "$PSScriptRoot/src/MigrationOps.PowerShell"
    dotnet build $project --configuration $Configuration
    # Help is made from the built cmdlets, and is part of the layout. A process of its own: an imported module holds on
    # to its files.
    $pwsh = & "$PSScriptRoot/tools/Get-PowerShellCommand.ps1"
    & $pwsh.Program $pwsh.Arguments -NoProfile -NonInteractive -File "$PSScriptRoot/tools/Build-Help.ps1" -Module "$layout/MigrationOps.psd1"
    dotnet build $project --configuration $Configuration --no-restore
    if ($Configuration -eq 'Release') { New-CompiledCopy $project }
}

# Compiled ahead of time for x64, beside what runs everywhere: an import has less to compile then. The obj folder keeps the lock file of
# this restore, which names a runtime and is nobody's reference.
function New-CompiledCopy([string] $Project) {
    $published = Join-Path -Path $output -ChildPath 'x64'
    dotnet publish $Project --configuration $Configuration --runtime linux-x64 --no-self-contained --output $published `
        -p:PublishReadyToRun=true -p:NuGetLockFilePath=obj/x64.lock.json -p:RestoreLockedMode=false -p:ModuleOutputPath=$published/unused/
    $folder = New-Item -ItemType Directory -Path "$layout/bin/x64" -Force
    Get-ChildItem -LiteralPath "$layout/bin" -Filter *.dll | ForEach-Object { Copy-Item -LiteralPath "$published/$($_.Name)" -Destination $folder }
    Remove-Item -LiteralPath $published -Recurse -Force
}

function Invoke-Test {
    dotnet test "$PSScriptRoot/MigrationOps.sln" --configuration $Configuration
}

function New-Package {
    if (-not (Test-Path -LiteralPath "$layout/MigrationOps.psd1")) {
        Invoke-Build
    }

    # The tests build the module too, and leave nothing there that was compiled before.
    if ($Configuration -eq 'Release' -and -not (Test-Path -LiteralPath "$layout/bin/x64")) {
        New-CompiledCopy "$PSScriptRoot/src/MigrationOps.PowerShell"
    }

    $package = Join-Path -Path $output -ChildPath "MigrationOps.$version.zip"
    Remove-Item -LiteralPath $package -Force -ErrorAction Ignore
    $archive = [IO.Compression.ZipFile]::Open($package, 'Create')
    try {
        # Always in the same order, whatever the file system thinks of.
        Get-ChildItem -LiteralPath $layout -Recurse -File | Sort-Object -Property FullName -Culture '' | ForEach-Object {
            $null = [IO.Compression.ZipFileExtensions]::CreateEntryFromFile(
                $archive, $_.FullName, [IO.Path]::GetRelativePath($output, $_.FullName), 'SmallestSize')
        }
    }
    finally {
        $archive.Dispose()
    }

    Get-Item -LiteralPath $package
}

# "pwsh -File build.ps1 -Task Build,Package" gives one string.
foreach ($name in $Task -split ',' -replace '\s') {
    switch ($name) {
        'Build' { Invoke-Build }
        'Test' { Invoke-Test }
        'Package' { New-Package }
        default { throw "-Task: expected Build, Test or Package, found '$name'." }
    }
}
