# Samples of the module's output types, for tests of what jobs and remoting make of them. The module has to be imported.

# The types of the objects that cmdlets give.
function Get-ResultType {
    [MigrationOps.DeviceStateReport].Assembly.GetExportedTypes() | Where-Object {
        $_.GetMethod('<Clone>$') -and -not $_.IsValueType -and $_.Namespace -eq 'MigrationOps'
    }
}

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
        if ($Actual) { throw "$Path is '$Actual', expected nothing" }
    }
    elseif ($Expected -is [Array]) {
        if (@($Actual).Count -ne $Expected.Length) { throw "$Path has $(@($Actual).Count) elements, expected $($Expected.Length)" }
        for ($i = 0; $i -lt $Expected.Length; $i++) { Compare-Sample $Expected[$i] @($Actual)[$i] "$Path[$i]" }
    }
    elseif ($Expected.GetType().Namespace -eq 'MigrationOps' -and -not $Expected.GetType().IsEnum) {
        if ("$($Actual.pstypenames)" -notlike "*MigrationOps.$($Expected.GetType().Name)*") { throw "$Path is a $($Actual.pstypenames), expected $($Expected.GetType())" }
        foreach ($property in $Expected.GetType().GetProperties('Instance, Public') | Where-Object { $_.GetIndexParameters().Count -eq 0 }) {
            Compare-Sample $property.GetValue($Expected) $Actual.($property.Name) "$Path.$($property.Name)"
        }
    }
    else {
        if ("$Actual" -cne "$Expected") { throw "$Path is '$Actual', expected '$Expected'" }
    }
}
