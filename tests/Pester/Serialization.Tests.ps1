# Jobs and remoting serialise what a cmdlet gives. Every output type has to arrive with the values that it left with, and to
# look the same.
BeforeDiscovery {
    . "$PSScriptRoot/Support.ps1"
    $resultTypes = [MigrationOps.DeviceStateReport].Assembly.GetExportedTypes() | Where-Object {
        $_.GetMethod('<Clone>$') -and -not $_.IsValueType -and $_.Namespace -eq 'MigrationOps'
    }
    $cases = $resultTypes | ForEach-Object { @{ Type = $_; Name = $_.Name } }
    if ($cases.Count -lt 15) {
        throw "Only $($cases.Count) output types were found."
    }
}

BeforeAll {
    . "$PSScriptRoot/Support.ps1"

    # An object of the type with a value of its own in every property, and two elements in every array.
    function New-Sample([type] $Type, [int] $Depth = 0) {
        $inner = [Nullable]::GetUnderlyingType($Type)
        if ($inner) { return New-Sample $inner $Depth }
        if ($Type.IsArray) {
            $element = $Type.GetElementType()
            $array = [Array]::CreateInstance($element, $Depth -gt 4 ? 0 : 2)
            for ($i = 0; $i -lt $array.Length; $i++) { $array.SetValue((New-Sample $element ($Depth + 1)), $i) }
            return , $array
        }

        $script:counter++
        switch ($Type) {
            ([string]) { return "text $script:counter" }
            ([bool]) { return $true }
            ([guid]) { return [guid]::new($script:counter, 0, 0, [byte[]]::new(8)) }
            ([timespan]) { return [timespan]::FromMilliseconds(1500 + $script:counter) }
            ([datetime]) { return [datetime]::new(2026, 11, 27, 12, 0, 0).AddSeconds($script:counter) }
            ([object]) { return "value $script:counter" }
        }

        if ($Type.IsEnum) { return [enum]::GetValues($Type)[0] }
        if ($Type.IsPrimitive) { return [Convert]::ChangeType($script:counter % 100 + 1, $Type) }
        $sample = [Runtime.CompilerServices.RuntimeHelpers]::GetUninitializedObject($Type)
        # The fields behind the properties, so that those without a setter count too.
        foreach ($field in $Type.GetFields('Instance, NonPublic') | Where-Object Name -Like '<*') {
            $field.SetValue($sample, (New-Sample $field.FieldType ($Depth + 1)))
        }

        $sample
    }

    # Property by property, down to simple values; enums arrive as their names.
    function Compare-Sample($Expected, $Actual, [string] $Path) {
        if ($null -eq $Expected) {
            $Actual | Should -BeNullOrEmpty -Because $Path
        }
        elseif ($Expected -is [Array]) {
            @($Actual).Count | Should -Be $Expected.Length -Because $Path
            for ($i = 0; $i -lt $Expected.Length; $i++) { Compare-Sample $Expected[$i] @($Actual)[$i] "$Path[$i]" }
        }
        elseif ($Expected.GetType().Namespace -eq 'MigrationOps' -and -not $Expected.GetType().IsEnum) {
            "$($Actual.pstypenames)" | Should -BeLike "*MigrationOps.$($Expected.GetType().Name)*" -Because $Path
            foreach ($property in $Expected.GetType().GetProperties('Instance, Public') | Where-Object { $_.GetIndexParameters().Count -eq 0 }) {
                Compare-Sample $property.GetValue($Expected) $Actual.($property.Name) "$Path.$($property.Name)"
            }
        }
        else {
            "$Actual" | Should -BeExactly "$Expected" -Because $Path
        }
    }
}

Describe 'What jobs and remoting make of a <Name>' -ForEach $cases {
    BeforeAll {
        $script:counter = 0
        $sample = New-Sample $Type
        # As remoting does it: one level, unless the type asks for more.
        $arrived = [Management.Automation.PSSerializer]::Deserialize([Management.Automation.PSSerializer]::Serialize($sample, 1))
    }

    It 'has the values that it left with' {
        Compare-Sample $sample $arrived $Name
    }

    It 'looks as it did' {
        ($arrived | Out-String) | Should -BeExactly ($sample | Out-String)
    }
}

Describe 'An error of a job' {
    It 'tells its name in FullyQualifiedErrorId' {
        $job = Start-Job -ArgumentList (Get-Module MigrationOps).Path { param($module) Import-Module $module; Get-VhostBackend -SocketPath /nonexistent.sock }
        $job | Receive-Job -Wait -AutoRemoveJob -ErrorVariable problem -ErrorAction SilentlyContinue
        ($problem[0].FullyQualifiedErrorId -split ',')[0] | Should -Be 'WireNotFound'
        $problem[0].Exception.SerializedRemoteException.ErrorId | Should -Be 'WireNotFound'
    }
}
