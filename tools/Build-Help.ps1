#Requires -Version 7.6
<#
.SYNOPSIS
    Builds the help of the module from docs/.
.DESCRIPTION
    docs/cmdlets/<Verb-Noun>.md and the metadata of the built cmdlets become MigrationOps.PowerShell.dll-Help.xml;
    docs/about_MigrationOps.md becomes about_MigrationOps.help.txt. What a page must not say twice, because the cmdlet
    itself says it (types, sets, positions, pipeline input, aliases, defaults), is never written by hand.

    It stops with a list of what is missing when a cmdlet has no page, a page has no cmdlet, a parameter has no text or a
    text has no parameter. The result depends on nothing but the pages and the cmdlets.
.EXAMPLE
    dotnet build src/MigrationOps.PowerShell; ./tools/Build-Help.ps1; dotnet build src/MigrationOps.PowerShell

    Builds the module, then its help from it, then lays the help out with the module.
#>
[CmdletBinding()]
param(
    # The built module. The one that is imported already is used if this is left out, else the one in output/.
    [string] $Module,

    # Where the files go.
    [string] $Destination = (Join-Path -Path $PSScriptRoot -ChildPath '../module/en-US')
)

Set-StrictMode -Version 3
$ErrorActionPreference = 'Stop'

$script:Sections = 'SYNOPSIS', 'DESCRIPTION', 'PARAMETERS', 'INPUTS', 'OUTPUTS', 'EXAMPLES', 'NOTES', 'RELATED LINKS'
$script:Docs = [IO.Path]::GetFullPath((Join-Path -Path $PSScriptRoot -ChildPath '../docs'))
$script:CommonFile = Join-Path -Path $Docs -ChildPath 'cmdlets/common-parameters.md'
$script:Namespaces = @{
    maml    = 'http://schemas.microsoft.com/maml/2004/10'
    command = 'http://schemas.microsoft.com/maml/dev/command/2004/10'
    dev     = 'http://schemas.microsoft.com/maml/dev/2004/10'
}

# Splits a page by the headings of one level, outside of code blocks: an ordered map from heading to lines.
function Split-Heading([string[]] $Line, [int] $Level) {
    $map = [ordered]@{}
    $heading = $null
    $inCode = $false
    foreach ($text in $Line) {
        if ($text -match '^```') { $inCode = -not $inCode }
        if (-not $inCode -and $text -match "^#{$Level} +(.+?) *$") {
            $heading = $Matches[1]
            if ($map.Contains($heading)) { throw "The heading '$heading' comes twice." }
            $map[$heading] = [System.Collections.Generic.List[string]]::new()
        } elseif ($null -ne $heading) {
            $map[$heading].Add($text)
        }
    }
    $map
}

# Markdown that a console cannot show becomes plain text; a link to another page keeps its words only.
function ConvertTo-PlainText([string] $Text) {
    $Text = $Text -replace '\[([^\]]+)\]\((https?://[^)]+)\)', '$1 ($2)' -replace '\[([^\]]+)\]\([^)]+\)', '$1'
    $Text -replace '\*\*([^*]+)\*\*', '$1' -replace '`([^`]+)`', '$1'
}

# Blocks in order: paragraphs (an item of a list is one) and code. Lines of one paragraph are joined.
function Get-Block([string[]] $Line) {
    $paragraph = [System.Collections.Generic.List[string]]::new()
    $code = $null
    $flush = {
        if ($paragraph.Count -gt 0) { [pscustomobject]@{ IsCode = $false; Text = ConvertTo-PlainText ($paragraph -join ' ') } }
        $paragraph.Clear()
    }
    foreach ($text in $Line) {
        if ($text -match '^```') {
            if ($null -eq $code) {
                & $flush
                $code = [System.Collections.Generic.List[string]]::new()
            } else {
                [pscustomobject]@{ IsCode = $true; Text = $code -join "`n" }
                $code = $null
            }
        } elseif ($null -ne $code) {
            $code.Add($text)
        } elseif ($text -match '^\s*$') {
            & $flush
        } else {
            if ($text -match '^\s*([-|]|\d+\.) ') { & $flush }
            $paragraph.Add($text.Trim())
        }
    }
    if ($null -ne $code) { throw 'A code block has no end.' }
    & $flush
}

# One page, taken apart and checked for its shape.
function Read-Page([string] $Path) {
    $lines = [System.IO.File]::ReadAllLines($Path)
    $sections = Split-Heading -Line $lines -Level 2
    $wrong = @($script:Sections | Where-Object { -not $sections.Contains($_) } | ForEach-Object { "lacks the section '$_'" })
    $wrong += @($sections.Keys | Where-Object { $_ -notin $script:Sections } | ForEach-Object { "has the unknown section '$_'" })
    if ($wrong) { throw "'$Path' $($wrong -join ', ')." }
    $page = @{ Path = $Path }
    foreach ($name in 'SYNOPSIS', 'DESCRIPTION', 'NOTES', 'RELATED LINKS') { $page[$name] = @(Get-Block $sections[$name]) }
    foreach ($name in 'PARAMETERS', 'INPUTS', 'OUTPUTS', 'EXAMPLES') {
        $page[$name] = [ordered]@{}
        $parts = Split-Heading -Line $sections[$name] -Level 3
        foreach ($heading in $parts.Keys) { $page[$name][$heading] = @(Get-Block $parts[$heading]) }
    }
    $page
}

function Read-ParameterText([string] $Path) {
    $texts = @{}
    $parts = Split-Heading -Line ([System.IO.File]::ReadAllLines($Path)) -Level 3
    foreach ($heading in $parts.Keys) { $texts[$heading.TrimStart('-')] = @(Get-Block $parts[$heading]) }
    $texts
}

# The parameters that are the cmdlet's own, in the order in which the help shows them.
function Get-OwnParameter([System.Management.Automation.CommandParameterSetInfo] $Set) {
    $common = [System.Management.Automation.Cmdlet]::CommonParameters
    $Set.Parameters | Where-Object Name -NotIn $common | Sort-Object -Stable -Culture '' -Property @(
        { if ($_.Position -ge 0) { $_.Position } else { [int]::MaxValue } }
        { -not $_.IsMandatory }
        { $_.Name -in 'WhatIf', 'Confirm' }
        'Name')
}

# One entry a parameter: its metadata, and what the page says of it.
function Get-ParameterHelp([System.Management.Automation.CmdletInfo] $Cmdlet, [hashtable] $Page, [hashtable] $CommonText) {
    $instance = [System.Activator]::CreateInstance($Cmdlet.ImplementingType)
    try {
        $all = $Cmdlet.ParameterSets | ForEach-Object { Get-OwnParameter $_ } | Group-Object -Property Name -CaseSensitive
        foreach ($group in $all) {
            $name = $group.Name
            $text = $Page.PARAMETERS.Contains("-$name") ? $Page.PARAMETERS["-$name"] : $CommonText[$name]
            $first = $group.Group[0]
            [pscustomobject]@{
                Name      = $name
                Text      = @($text | Where-Object { $_ })
                Type      = $first.ParameterType
                Required  = @($group.Group | Where-Object IsMandatory).Count -gt 0
                Position  = @($group.Group | Where-Object Position -GE 0 | ForEach-Object Position) + 'named' | Select-Object -First 1
                Pipeline  = Get-PipelineInput $group.Group
                Aliases   = @($first.Aliases | Sort-Object -Culture '') -join ', '
                Default   = Get-DefaultText $instance $name
                Wildcards = @($first.Attributes | Where-Object { $_ -is [System.Management.Automation.SupportsWildcardsAttribute] }).Count -gt 0
            }
        }
    } finally {
        if ($instance -is [System.IDisposable]) { $instance.Dispose() }
    }
}

function Get-PipelineInput([object[]] $Parameter) {
    $ways = @(
        if ($Parameter.ValueFromPipeline -contains $true) { 'ByValue' }
        if ($Parameter.ValueFromPipelineByPropertyName -contains $true) { 'ByPropertyName' }
    )
    $ways ? "True ($($ways -join ', '))" : 'False'
}

function Get-DefaultText([object] $Instance, [string] $Name) {
    $property = $Instance.GetType().GetProperty($Name)
    $value = $property ? $property.GetValue($Instance) : $null
    if ($property -and $property.PropertyType -eq [switch]) { return 'False' }
    if ($null -eq $value -or ($value -is [array] -and $value.Length -eq 0)) { return 'None' }
    $text = $value -is [System.IFormattable] ? $value.ToString($null, [cultureinfo]::InvariantCulture) : [string]$value
    $text ? $text : 'None'
}

function Get-TypeText([type] $Type) {
    $Type = [System.Nullable]::GetUnderlyingType($Type) ?? $Type
    $Type.IsArray ? "$($Type.GetElementType().Name)[]" : $Type.Name
}

# What is missing or too much, as sentences.
function Get-Fault([System.Management.Automation.CmdletInfo] $Cmdlet, [hashtable] $Page, [object[]] $Parameter) {
    $name = $Cmdlet.Name
    foreach ($section in 'SYNOPSIS', 'DESCRIPTION', 'NOTES') { if ($Page[$section].Count -eq 0) { "${name}: $section is empty" } }
    foreach ($section in 'INPUTS', 'OUTPUTS') { if ($Page[$section].Count -eq 0) { "${name}: $section is empty (write '### None')" } }
    foreach ($entry in $Parameter) { if ($entry.Text.Count -eq 0) { "${name}: -$($entry.Name) has no text" } }
    foreach ($heading in $Page.PARAMETERS.Keys) {
        if ($heading.TrimStart('-') -cnotin $Parameter.Name) { "${name}: there is no parameter '$heading'" }
    }
    if ($Page.EXAMPLES.Count -lt 2) { "${name}: fewer than two examples" }
    foreach ($title in $Page.EXAMPLES.Keys) {
        if (-not ($Page.EXAMPLES[$title] | Where-Object IsCode)) { "${name}: the example '$title' has no code" }
    }
}

function Write-Tag([string] $Tag, [scriptblock] $Content, [System.Collections.IDictionary] $Attribute = @{}) {
    $prefix, $local = $Tag -split ':'
    $script:Xml.WriteStartElement($prefix, $local, $script:Namespaces[$prefix])
    foreach ($key in $Attribute.Keys) { $script:Xml.WriteAttributeString($key, [string]$Attribute[$key]) }
    & $Content
    $script:Xml.WriteEndElement()
}

function Write-Text([string] $Tag, [string] $Text) { Write-Tag $Tag { $script:Xml.WriteString($Text) } }

function Write-Para([object[]] $Block) { foreach ($item in $Block) { Write-Text 'maml:para' $item.Text } }

function Write-Parameter([object] $Parameter, [bool] $InSyntax) {
    $attributes = [ordered]@{
        required       = ([string]$Parameter.Required).ToLowerInvariant()
        variableLength = ([string]$Parameter.Type.IsArray).ToLowerInvariant()
        globbing       = ([string]$Parameter.Wildcards).ToLowerInvariant()
        pipelineInput  = $Parameter.Pipeline
        position       = $Parameter.Position
        aliases        = $Parameter.Aliases ? $Parameter.Aliases : 'none'
    }
    Write-Tag 'command:parameter' -Attribute $attributes {
        Write-Text 'maml:name' $Parameter.Name
        # The syntax needs no words. In it a switch has no value, and an enumeration is shown by its names.
        if (-not $InSyntax) { Write-Tag 'maml:description' { Write-Para $Parameter.Text } }
        if (-not ($InSyntax -and $Parameter.Type -eq [switch])) {
            if ($InSyntax -and $Parameter.Type.IsEnum -and [enum]::GetNames($Parameter.Type).Count -le 16) {
                Write-Tag 'command:parameterValueGroup' {
                    foreach ($value in [enum]::GetNames($Parameter.Type)) {
                        Write-Tag 'command:parameterValue' -Attribute ([ordered]@{ required = 'false'; variableLength = 'false' }) {
                            $script:Xml.WriteString($value)
                        }
                    }
                }
            }
            Write-Tag 'command:parameterValue' -Attribute ([ordered]@{ required = 'true'; variableLength = $attributes.variableLength }) {
                $script:Xml.WriteString((Get-TypeText $Parameter.Type))
            }
        }
        Write-Tag 'dev:type' { Write-Text 'maml:name' (Get-TypeText $Parameter.Type); Write-Tag 'maml:uri' {} }
        Write-Text 'dev:defaultValue' $Parameter.Default
    }
}

function Write-Example([System.Collections.IDictionary] $Examples) {
    $number = 0
    foreach ($title in $Examples.Keys) {
        $number++
        $blocks = $Examples[$title]
        Write-Tag 'command:example' {
            Write-Text 'maml:title' "Example ${number}: $(ConvertTo-PlainText $title)"
            Write-Text 'dev:code' (@($blocks | Where-Object IsCode | ForEach-Object Text) -join "`n`n")
            # The empty one keeps the next title apart.
            Write-Tag 'dev:remarks' { Write-Para @($blocks | Where-Object { -not $_.IsCode }); Write-Text 'maml:para' '' }
        }
    }
}

function Write-TypeList([string] $List, [string] $Item, [System.Collections.IDictionary] $Types) {
    Write-Tag $List {
        foreach ($type in $Types.Keys) {
            Write-Tag $Item {
                Write-Tag 'dev:type' { Write-Text 'maml:name' (ConvertTo-PlainText $type) }
                Write-Tag 'maml:description' { Write-Para $Types[$type] }
            }
        }
    }
}

function Write-Link([object[]] $Block) {
    Write-Tag 'maml:relatedLinks' {
        foreach ($item in $Block) {
            $text = $item.Text -replace '^- '
            $words, $uri = $text -match '^(.*) \((https?://.*)\)$' ? $Matches[1, 2] : @($text, '')
            Write-Tag 'maml:navigationLink' { Write-Text 'maml:linkText' $words; Write-Text 'maml:uri' $uri }
        }
    }
}

function Write-Command([System.Management.Automation.CmdletInfo] $Cmdlet, [hashtable] $Page, [object[]] $Parameter) {
    Write-Tag 'command:command' {
        Write-Tag 'command:details' {
            Write-Text 'command:name' $Cmdlet.Name
            Write-Text 'command:verb' $Cmdlet.Verb
            Write-Text 'command:noun' $Cmdlet.Noun
            Write-Tag 'maml:description' { Write-Para $Page.SYNOPSIS }
        }
        Write-Tag 'maml:description' { Write-Para $Page.DESCRIPTION }
        Write-Tag 'command:syntax' {
            foreach ($set in $Cmdlet.ParameterSets | Sort-Object -Stable -Culture '' -Property { -not $_.IsDefault }, Name) {
                Write-Tag 'command:syntaxItem' {
                    Write-Text 'maml:name' $Cmdlet.Name
                    foreach ($own in Get-OwnParameter $set) {
                        $inSet = ($Parameter | Where-Object Name -CEQ $own.Name).PSObject.Copy()
                        $inSet.Required = $own.IsMandatory
                        $inSet.Position = $own.Position -ge 0 ? $own.Position : 'named'
                        $inSet.Pipeline = Get-PipelineInput $own
                        Write-Parameter $inSet $true
                    }
                }
            }
        }
        Write-Tag 'command:parameters' { foreach ($entry in $Parameter) { Write-Parameter $entry $false } }
        Write-TypeList 'command:inputTypes' 'command:inputType' $Page.INPUTS
        Write-TypeList 'command:returnValues' 'command:returnValue' $Page.OUTPUTS
        Write-Tag 'maml:alertSet' { Write-Tag 'maml:alert' { Write-Para $Page.NOTES } }
        Write-Tag 'command:examples' { Write-Example $Page.EXAMPLES }
        Write-Link $Page['RELATED LINKS']
    }
}

function Build-Maml([System.Management.Automation.CmdletInfo[]] $Cmdlet) {
    $commonText = Read-ParameterText $script:CommonFile
    $pages = @{}
    foreach ($file in Get-ChildItem -LiteralPath (Join-Path $Docs 'cmdlets') -Filter '*-*.md') {
        if ($file.FullName -ne $script:CommonFile) { $pages[$file.BaseName] = Read-Page $file.FullName }
    }

    $faults = @(
        $pages.Keys | Where-Object { $_ -cnotin $Cmdlet.Name } | ForEach-Object { "docs/cmdlets/$_.md: there is no such cmdlet" }
        $Cmdlet | Where-Object { -not $pages.ContainsKey($_.Name) } | ForEach-Object { "$($_.Name): docs/cmdlets/$($_.Name).md is missing" }
    )
    $buffer = [System.IO.MemoryStream]::new()
    $settings = [System.Xml.XmlWriterSettings]@{ Indent = $true; NewLineChars = "`n"; Encoding = [System.Text.UTF8Encoding]::new($false) }
    $script:Xml = [System.Xml.XmlWriter]::Create($buffer, $settings)
    $script:Xml.WriteStartElement('helpItems', 'http://msh')
    $script:Xml.WriteAttributeString('schema', 'maml')
    foreach ($prefix in $script:Namespaces.Keys | Sort-Object -Culture '') {
        $script:Xml.WriteAttributeString('xmlns', $prefix, $null, $script:Namespaces[$prefix])
    }
    foreach ($one in $Cmdlet | Where-Object { $pages.ContainsKey($_.Name) } | Sort-Object -Culture '' -Property Name) {
        $parameters = @(Get-ParameterHelp $one $pages[$one.Name] $commonText)
        $faults += @(Get-Fault $one $pages[$one.Name] $parameters)
        Write-Command $one $pages[$one.Name] $parameters
    }
    $script:Xml.WriteEndElement()
    $script:Xml.Dispose()
    if ($faults) { throw "The help is not complete:`n$(($faults | Sort-Object -Culture '') -join "`n")" }
    , $buffer.ToArray()
}

# An about_ topic as text: headings at the margin in capitals, everything else indented and wrapped.
function Build-About([string] $Path) {
    $lines = [System.IO.File]::ReadAllLines($Path)
    $output = [System.Collections.Generic.List[string]]::new()
    $output.Add('TOPIC')
    $output.Add("    $([System.IO.Path]::GetFileNameWithoutExtension($Path))")
    $sections = Split-Heading -Line $lines -Level 2
    foreach ($heading in $sections.Keys) {
        $output.Add('')
        $output.Add($heading.ToUpperInvariant())
        $first = $true
        foreach ($block in Get-Block $sections[$heading]) {
            $isItem = $block.Text -match '^- '
            if (-not ($first -or $isItem)) { $output.Add('') }
            $first = $false
            if ($block.IsCode) { foreach ($line in $block.Text -split "`n") { $output.Add("        $line".TrimEnd()) } }
            else { foreach ($line in Split-Width $block.Text 76 ($isItem ? '  ' : '')) { $output.Add("    $line") } }
        }
    }
    ($output -join "`n") + "`n"
}

function Split-Width([string] $Text, [int] $Width, [string] $Hanging) {
    $line = ''
    foreach ($word in $Text -split ' +') {
        if ($line -and "$line $word".Length -gt $Width) {
            $line
            $line = "$Hanging$word"
        } else {
            $line = $line ? "$line $word" : $word
        }
    }
    $line
}

$loaded = $Module ? $null : (Get-Module -Name MigrationOps)
if (-not $loaded) {
    if (-not $Module) {
        $source = Import-PowerShellDataFile -LiteralPath (Join-Path $PSScriptRoot '../module/MigrationOps.psd1')
        $Module = Join-Path $PSScriptRoot "../output/MigrationOps/$($source.ModuleVersion)/MigrationOps.psd1"
    }
    $loaded = Import-Module -Name $Module -PassThru
}

# Everything is built before anything is written, so that a fault leaves the old files as they are.
$maml = Build-Maml @(Get-Command -Module $loaded.Name -CommandType Cmdlet)
$about = Build-About (Join-Path $Docs 'about_MigrationOps.md')
$folder = (New-Item -ItemType Directory -Path $Destination -Force).FullName
[System.IO.File]::WriteAllBytes((Join-Path $folder 'MigrationOps.PowerShell.dll-Help.xml'), $maml)
[System.IO.File]::WriteAllText((Join-Path $folder 'about_MigrationOps.help.txt'), $about)
Get-Item -LiteralPath (Join-Path $folder 'MigrationOps.PowerShell.dll-Help.xml'), (Join-Path $folder 'about_MigrationOps.help.txt')
