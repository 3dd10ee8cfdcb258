BeforeDiscovery {
    $cmdlets = (Import-PowerShellDataFile -LiteralPath "$PSScriptRoot/../../module/MigrationOps.psd1").CmdletsToExport |
        ForEach-Object { @{ Name = $_ } }
}

BeforeAll {
    . "$PSScriptRoot/Support.ps1"

    # A copy of what the script reads, to be changed.
    function Copy-Source {
        foreach ($folder in 'docs', 'tools') {
            Copy-Item -LiteralPath "$repository/$folder" -Destination "$TestDrive/$folder" -Recurse -Force
        }
    }

    # Runs the script on a copy of docs/ that was changed in one page.
    function Build-Changed {
        param([string] $Page, [scriptblock] $Change)
        Copy-Source
        $path = "$TestDrive/docs/$Page"
        $changed = & $Change (Get-Content -LiteralPath $path -Raw)
        $changed | Should -Not -BeExactly (Get-Content -LiteralPath $path -Raw)
        Set-Content -LiteralPath $path -Value $changed -NoNewline
        & "$TestDrive/tools/Build-Help.ps1" -Destination "$TestDrive/help"
    }
}

Describe 'Help' {
    AfterEach {
        Get-ChildItem -LiteralPath $TestDrive -Force | Remove-Item -Recurse -Force
    }

    It 'is, file by file, what Build-Help.ps1 makes of the pages and the cmdlets now' {
        $built = & "$repository/tools/Build-Help.ps1" -Destination "$TestDrive/help"
        $built.Name | Sort-Object | Should -Be ((Get-ChildItem -LiteralPath "$repository/module/en-US").Name | Sort-Object)
        foreach ($file in $built) {
            $committed = Get-Content -LiteralPath "$repository/module/en-US/$($file.Name)" -Raw
            Get-Content -LiteralPath $file.FullName -Raw |
                Should -BeExactly $committed -Because "tools/Build-Help.ps1 writes $($file.Name) anew; run it and commit the result"
        }
    }

    It 'is the same every time it is built' {
        $first = & "$repository/tools/Build-Help.ps1" -Destination "$TestDrive/first" | Get-FileHash
        $second = & "$repository/tools/Build-Help.ps1" -Destination "$TestDrive/second" | Get-FileHash
        $second.Hash | Should -Be $first.Hash
    }

    It 'lies in the built module as it is committed' {
        foreach ($file in Get-ChildItem -LiteralPath "$repository/module/en-US") {
            (Get-FileHash -LiteralPath "$moduleFolder/en-US/$($file.Name)").Hash | Should -Be (Get-FileHash -LiteralPath $file.FullName).Hash
        }
    }

    It 'has an about topic that Get-Help finds' {
        Get-Help -Name about_MigrationOps | Should -Match 'virtiofsd ends when its'
    }

    It 'names every exported cmdlet in the about topic' {
        $about = Get-Help -Name about_MigrationOps | Out-String
        foreach ($name in (Get-Command -Module MigrationOps).Name) { $about | Should -Match "\b$name\b" }
    }

    Context 'of <Name>' -ForEach $cmdlets {
        BeforeAll {
            $command = Get-Command -Name $Name -Module MigrationOps
            $help = Get-Help -Name $Name -Full
            $own = $command.Parameters.Keys | Where-Object { $_ -notin [Management.Automation.Cmdlet]::CommonParameters } | Sort-Object
        }

        It 'has a synopsis of its own' {
            $help.Synopsis.Trim() | Should -Not -BeNullOrEmpty
            # Without help PowerShell puts the syntax in its place.
            $help.Synopsis.Trim() | Should -Not -BeLike "$Name*"
        }

        It 'has a description' {
            ($help.description.Text -join ' ').Length | Should -BeGreaterThan 80
        }

        It 'says something about every parameter, and about none that does not exist' {
            $described = @($help.parameters.parameter)
            $described.name | Sort-Object | Should -Be $own
            foreach ($parameter in $described) {
                ($parameter.description.Text -join '').Length | Should -BeGreaterThan 10 -Because "-$($parameter.name) needs help"
            }
        }

        It 'shows every parameter set' {
            @($help.syntax.syntaxItem).Count | Should -Be $command.ParameterSets.Count
        }

        It 'says what goes in and what comes out' {
            @($help.inputTypes.inputType.type.name) | Should -Not -BeNullOrEmpty
            $returned = @($help.returnValues.returnValue.type.name)
            foreach ($type in $command.OutputType.Name -replace '^System\.Void$', 'None') { $returned | Should -Contain $type }
        }

        It 'has two examples or more, each with code' {
            $examples = @($help.examples.example)
            $examples.Count | Should -BeGreaterOrEqual 2
            foreach ($example in $examples) { $example.code | Should -Match "(?m)^PS> .*\b$Name\b" }
        }

        It 'uses only cmdlets and parameters that exist in its examples' {
            foreach ($line in $help.examples.example.code -split "`n" -match '^PS> ') {
                $faults = $null
                $tree = [Management.Automation.Language.Parser]::ParseInput($line.Substring(4), [ref]$null, [ref]$faults)
                $faults | Should -BeNullOrEmpty -Because $line
                foreach ($call in $tree.FindAll({ $args[0] -is [Management.Automation.Language.CommandAst] }, $true)) {
                    # Other programs of a host, such as systemctl and virsh, need not be installed here.
                    if ($call.GetCommandName() -notlike '*-*') { continue }
                    $called = Get-Command -Name $call.GetCommandName()
                    foreach ($given in $call.CommandElements | Where-Object { $_ -is [Management.Automation.Language.CommandParameterAst] }) {
                        $called.ResolveParameter($given.ParameterName) | Should -Not -BeNullOrEmpty -Because "$line needs -$($given.ParameterName)"
                    }
                }
            }
        }
    }

    Context 'that is not complete' {
        It 'is not built when a page describes a parameter that does not exist' {
            { Build-Changed 'cmdlets/Get-VhostBackend.md' { $args[0] -replace '## INPUTS', "### -Colour`n`nIts colour.`n`n## INPUTS" } } |
                Should -Throw "*Get-VhostBackend: there is no parameter '-Colour'*"
        }

        It 'is not built when a parameter has no text' {
            { Build-Changed 'cmdlets/Test-DeviceState.md' { $args[0] -replace '### -Quiet\s+[^#]+' } } | Should -Throw '*Test-DeviceState: -Quiet has no text*'
        }

        It 'is not built when a shared parameter has no text' {
            { Build-Changed 'cmdlets/common-parameters.md' { $args[0] -replace '### -Timeout\s+[^#]+' } } | Should -Throw '*Get-VhostBackend: -Timeout has no text*'
        }

        It 'is not built when a page has fewer than two examples' {
            { Build-Changed 'cmdlets/Stop-VhostBackend.md' { $args[0] -replace '(?s)### Stop a back-end by its socket.*?## NOTES', '## NOTES' } } |
                Should -Throw '*Stop-VhostBackend: fewer than two examples*'
        }

        It 'is not built when a page lacks a section' {
            { Build-Changed 'cmdlets/Stop-VhostBackend.md' { $args[0] -replace '## OUTPUTS', '## RESULTS' } } |
                Should -Throw "*lacks the section 'OUTPUTS', has the unknown section 'RESULTS'*"
        }

        It 'is not built when a cmdlet has no page' {
            Copy-Source
            Remove-Item -LiteralPath "$TestDrive/docs/cmdlets/Stop-VhostBackend.md"
            { & "$TestDrive/tools/Build-Help.ps1" -Destination "$TestDrive/help" } | Should -Throw '*Stop-VhostBackend.md is missing*'
        }

        It 'leaves the files of an earlier build alone' {
            $null = New-Item -ItemType Directory -Path "$TestDrive/help" -Force
            Set-Content -LiteralPath "$TestDrive/help/about_MigrationOps.help.txt" -Value 'earlier'
            { Build-Changed 'about_MigrationOps.md' { $args[0] + "`n" + '```' } } | Should -Throw '*has no end*'
            Get-Content -LiteralPath "$TestDrive/help/about_MigrationOps.help.txt" | Should -Be 'earlier'
        }
    }
}
