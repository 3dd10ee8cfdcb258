BeforeDiscovery {
    . "$PSScriptRoot/Support.ps1"
    $commands = Get-Command -Module MigrationOps | ForEach-Object { @{ Name = $_.Name; Command = $_ } }
    $types = $commands.Command.OutputType.Type | Where-Object { $_.Namespace -eq 'MigrationOps' } | Sort-Object -Property FullName -Unique |
        ForEach-Object { @{ Type = $_.FullName } }
}

BeforeAll {
    . "$PSScriptRoot/Support.ps1"

    # Runs a script in a runspace of its own, which is gone afterwards.
    function Invoke-InRunspace {
        param([string] $Script, [hashtable] $Parameters = @{})
        $shell = [powershell]::Create()
        try {
            $shell.AddScript("param(`$manifest, `$p) `$ErrorActionPreference = 'Stop'; $Script").AddArgument($manifestPath).AddArgument($Parameters).Invoke()
        }
        finally {
            $shell.Dispose()
        }
    }
}

Describe 'The module' {
    Context 'manifest' {
        BeforeAll {
            $manifest = Test-ModuleManifest -Path $manifestPath
            $cmdlets = (Get-Command -Module MigrationOps).ImplementingType.Assembly.GetExportedTypes() | Sort-Object -Property FullName -Unique |
                ForEach-Object { $_.GetCustomAttributes([Management.Automation.CmdletAttribute], $false) } | ForEach-Object { "$($_.VerbName)-$($_.NounName)" }
        }

        It 'is valid, for PowerShell 7.6 and nothing older' {
            $manifest.PowerShellVersion | Should -Be ([version]'7.6')
            $manifest.CompatiblePSEditions | Should -Be Core
        }

        It 'has the version of its folder' {
            $manifest.Version | Should -Be (Split-Path -Path $moduleFolder -Leaf)
        }

        It 'exports exactly the cmdlets that there are, by name' {
            (Import-PowerShellDataFile -LiteralPath $manifestPath).CmdletsToExport | Sort-Object | Should -Be ($cmdlets | Sort-Object)
            (Get-Command -Module MigrationOps).Name | Sort-Object | Should -Be ($cmdlets | Sort-Object)
        }

        It 'exports nothing else' {
            $data = Import-PowerShellDataFile -LiteralPath $manifestPath
            $data.FunctionsToExport.Count + $data.AliasesToExport.Count + $data.VariablesToExport.Count | Should -Be 0
        }

        It 'tells a gallery what it needs' {
            $manifest.Tags | Should -Contain 'QEMU'
            $manifest.Tags | Should -Contain 'Linux'
            $manifest.Tags -match '\s' | Should -BeNullOrEmpty
            $manifest.LicenseUri.Scheme | Should -Be https
            $manifest.ProjectUri.Scheme | Should -Be https
            $manifest.Author, $manifest.Description, $manifest.Copyright | Should -Not -Contain ''
            Join-Path $moduleFolder LICENSE | Should -Exist
        }

        It 'has every document and runbook that about_MigrationOps sends a user to' {
            $named = [regex]::Matches((Get-Content -LiteralPath "$repository/docs/about_MigrationOps.md" -Raw), '(?:docs/)?[a-z-]+\.md').Value
            $named | Should -Contain 'docs/errors.md'
            $named | ForEach-Object { Join-Path $moduleFolder 'docs' ($_ -replace '^docs/') | Should -Exist }
            $runbooks = (Get-ChildItem -Path "$repository/examples/*.ps1").Name
            $runbooks | Should -Not -BeNullOrEmpty
            (Get-ChildItem -Path "$moduleFolder/examples").Name | Should -Be $runbooks
        }
    }

    Context 'cases' {
        It 'are the cmdlets and result types that the built module has' -TestCases @{ Commands = $commands.Count; Types = $types.Count } {
            $Commands | Should -BeGreaterOrEqual 30
            $Types | Should -BeGreaterOrEqual 20
        }
    }

    Context '<Name>' -ForEach $commands {
        It 'has a suite of its own, which tries -WhatIf where the cmdlet has it' {
            $suite = "$PSScriptRoot/$Name.Tests.ps1"
            $suite | Should -Exist
            if ($Command.Parameters.ContainsKey('WhatIf')) {
                Get-Content -LiteralPath $suite -Raw | Should -Match '-WhatIf\b'
            }
        }

        It 'has an approved verb and a singular noun' {
            (Get-Verb -Verb $Command.Verb) | Should -Not -BeNullOrEmpty
            $Command.Noun | Should -Not -Match '[^s]s$'
        }

        It 'takes a plain number of every kind as seconds, wherever it takes a time' {
            foreach ($parameter in $Command.Parameters.Values | Where-Object { $_.ParameterType -in [timespan], [Nullable[timespan]], [timespan[]] }) {
                $transform = @($parameter.Attributes | Where-Object { $_.GetType().Name -eq 'SecondsAttribute' })
                $transform | Should -HaveCount 1 -Because "-$($parameter.Name) takes a time"
                foreach ($five in 5, 5.0, [float] 5, [decimal] 5, [byte] 5, [ushort] 5, [ulong] 5, '5', (Write-Output 5), ('{"a":5}' | ConvertFrom-Json).a) {
                    $transform[0].Transform($null, $five) | Should -Be ([timespan]::FromSeconds(5)) -Because "$($five.GetType()) was given"
                    $transform[0].Transform($null, [psobject]::AsPSObject($five)) | Should -Be ([timespan]::FromSeconds(5))
                }
            }
        }

        It 'refuses a timeout that no wait can keep' {
            if ($Command.Parameters['Timeout'].ParameterType -ne [timespan]) { return }
            $values = @{}
            $Command.ParameterSets | Where-Object { $_.Parameters.Name -contains 'Timeout' } | Select-Object -First 1 -ExpandProperty Parameters | Where-Object IsMandatory | ForEach-Object {
                $values[$_.Name] = switch ($_.ParameterType) {
                    ([hashtable]) { @{}; break }
                    ([hashtable[]]) { , @(@{}); break }
                    ([scriptblock]) { { }; break }
                    default { 'none' }
                }
            }
            foreach ($timeout in 0, -5, [timespan]::MaxValue) {
                { & $Command @values -Timeout $timeout -ErrorAction Stop } | Should -Throw -ErrorId "TimeoutOutOfRange,*" -Because "-Timeout $timeout was given"
            }
        }

        It 'asks before it changes anything, and does not where it changes nothing' {
            $Command.Parameters.ContainsKey('WhatIf') | Should -Be ($Command.Verb -notin 'Get', 'Test', 'Compare', 'ConvertFrom', 'Find', 'Connect', 'Disconnect', 'Wait', 'Measure')
        }

        It 'says what it puts on the pipeline' {
            $Command.OutputType | Should -Not -BeNullOrEmpty
        }

        It 'takes no secret as plain text' {
            $Command.Parameters.Values | Where-Object -Property Name -Match -Value 'password|passphrase|secret|token' |
                Where-Object -Property ParameterType -NE -Value ([securestring]) | Should -BeNullOrEmpty
        }

        It 'names no type in its parameters that another module could not know' {
            $own = $Command.Parameters.Values.ParameterType | Where-Object { $_.Assembly.GetName().Name -like 'Microsoft.Extensions.*' }
            $own | Should -BeNullOrEmpty
        }
    }

    Context '<Type>' -ForEach $types {
        It 'has a view of its own' {
            Get-FormatData -TypeName $Type | Should -Not -BeNullOrEmpty
        }

        It 'has properties that remoting keeps' {
            $simple = [string], [bool], [int], [uint], [long], [ulong], [double], [TimeSpan], [DateTime], [DateTimeOffset], [Guid]
            foreach ($property in ([type]$Type).GetProperties()) {
                $element = $property.PropertyType.IsArray ? $property.PropertyType.GetElementType() : $property.PropertyType
                $element = [Nullable]::GetUnderlyingType($element) ?? $element
                # What a QEMU sent has no fixed type: it is made of simple things, which the cmdlet's own suite sends through.
                $element -eq [object] -or $element -in $simple -or $element.IsEnum -or $element.Assembly.GetName().Name -eq 'MigrationOps.Shared' | Should -BeTrue -Because $property.Name
            }
        }
    }

    Context 'views' {
        It 'prints a transfer in 80 columns, with the outcome in it' {
            $backend = Start-Backend -Size 3MB
            $lines = (Start-VhostStateSave $backend.SocketPath "$TestDrive/a.state" | Out-String -Width 80).Trim().Split("`n")
            Stop-StartedBackend
            $lines[0] | Should -Match '^Device +Direction +Bytes +Duration +Throughput +Checked +Sha256'
            $lines[2] | Should -Match '^\S+ +Save +3,145,728 +[\d.,]+ m?s +[\d.,]+ MiB/s True +[0-9a-f]{12}\.\.'
        }

        It 'extends types without a name that clashes' {
            (Get-TypeData -TypeName MigrationOps.VhostStateTransfer).DefaultDisplayPropertySet.ReferencedProperties | Should -Contain Sha256
        }
    }

    Context 'import' {
        It 'exports everything again after -Force' {
            $count = (Get-Command -Module MigrationOps).Count
            (Invoke-InRunspace 'Import-Module $manifest; Import-Module $manifest -Force; Get-Command -Module MigrationOps').Count | Should -Be $count
        }

        It 'exports everything again after Remove-Module, and works' {
            $count = (Get-Command -Module MigrationOps).Count
            $path = New-SocketPath
            $result = Invoke-InRunspace @'
                Import-Module $manifest
                Remove-Module MigrationOps
                if (Get-Command -Module MigrationOps) { throw 'still there' }
                Import-Module $manifest
                $backend = Start-VhostBackend $p.Path
                (Get-VhostBackend $p.Path).DeviceState
                $backend | Stop-VhostBackend
                (Get-Command -Module MigrationOps).Count
'@ @{ Path = $path }
            $result | Should -Be $true, $count
        }

        It 'stops the back-ends of the session with Remove-Module, and removes their sockets' {
            $path = New-SocketPath
            Invoke-InRunspace @'
                Import-Module $manifest
                $backend = Start-VhostBackend $p.Path
                Remove-Module MigrationOps
                $backend.IsRunning
                Test-Path $p.Path
'@ @{ Path = $path } | Should -Be $false, $false
        }

        It 'stops the back-ends of a runspace that ends' {
            $path = New-SocketPath
            $backend = Invoke-InRunspace 'Import-Module $manifest; Start-VhostBackend $p.Path' @{ Path = $path }
            $backend.IsRunning | Should -BeFalse
            $path | Should -Not -Exist
        }

        It 'keeps the state of two runspaces apart' {
            $backend = Start-Backend
            $errors = Invoke-InRunspace @'
                Import-Module $manifest
                Stop-VhostBackend -SocketPath $p.Path -ErrorAction SilentlyContinue -ErrorVariable failures
                $failures[0].FullyQualifiedErrorId
                Remove-Module MigrationOps
'@ @{ Path = $backend.SocketPath }
            $errors | Should -BeLike 'VhostBackendNotFound*'
            $backend.IsRunning | Should -BeTrue
            Stop-StartedBackend
        }

        It 'stops what a pwsh started when that pwsh ends' {
            $path = New-SocketPath
            & $pwsh.Program $pwsh.Arguments -NoProfile -NonInteractive -Command "Import-Module '$manifestPath'; (Start-VhostBackend '$path').IsRunning" | Should -Be True
            $path | Should -Not -Exist
        }

        It 'takes what is compiled for this processor, and the rest from where everything is' {
            Copy-Item -LiteralPath $moduleFolder -Destination "$TestDrive/compiled" -Recurse
            $own = [Runtime.InteropServices.RuntimeInformation]::ProcessArchitecture.ToString().ToLowerInvariant()
            Remove-Item -LiteralPath "$TestDrive/compiled/bin/$own" -Recurse -ErrorAction Ignore
            $null = New-Item -ItemType Directory -Path "$TestDrive/compiled/bin/$own", "$TestDrive/compiled/bin/other"
            Copy-Item -LiteralPath "$moduleFolder/bin/MigrationOps.Engine.dll" -Destination "$TestDrive/compiled/bin/$own"
            # What is for another processor does not even load.
            'none' | Set-Content -LiteralPath "$TestDrive/compiled/bin/other/MigrationOps.PowerShell.dll"
            $script = "Import-Module '$TestDrive/compiled/MigrationOps.psd1'; Get-VhostBackend none -ErrorAction Ignore;" +
                '[Runtime.Loader.AssemblyLoadContext]::All | Where-Object Name -EQ MigrationOps | ForEach-Object Assemblies | ForEach-Object Location'
            $loaded = & $pwsh.Program $pwsh.Arguments -NoProfile -NonInteractive -Command $script
            $loaded | Should -Contain "$TestDrive/compiled/bin/$own/MigrationOps.Engine.dll"
            $loaded | Should -Contain "$TestDrive/compiled/bin/MigrationOps.PowerShell.dll"
            $loaded | Should -Not -Contain "$TestDrive/compiled/bin/MigrationOps.Engine.dll"
        }

        It 'keeps the assemblies that it brings out of PowerShell''s own load context' {
            Get-VhostBackend "$TestDrive/none" -ErrorAction SilentlyContinue
            $shipped = Get-ChildItem -Path "$moduleFolder/bin/*.dll" | ForEach-Object -MemberName BaseName
            $shipped | Should -Contain Microsoft.Extensions.Logging
            [Runtime.Loader.AssemblyLoadContext]::Default.Assemblies | ForEach-Object { $_.GetName().Name } | Where-Object { $_ -in $shipped } | Should -BeNullOrEmpty
            $own = [Runtime.Loader.AssemblyLoadContext]::All | Where-Object -Property Name -EQ -Value MigrationOps
            $own | Should -HaveCount 1
            $own.Assemblies | ForEach-Object { $_.GetName().Name } | Should -Contain Microsoft.Extensions.Logging.Abstractions
        }
    }
}
