BeforeAll {
    . "$PSScriptRoot/Support.ps1"

    # A main stream of a real QEMU, up to the end of its list of RAM blocks.
    function New-Stream([string] $Path, [Collections.IDictionary] $Block) {
        $bytes = [Collections.Generic.List[byte]]::new()
        $word = { param($Value) $b = [BitConverter]::GetBytes([ulong]$Value); [array]::Reverse($b); $bytes.AddRange($b) }
        # QEVM, version 3; START of section 2, "ram", instance 0, version 4
        $bytes.AddRange([byte[]](0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3, 1, 0, 0, 0, 2, 3, 0x72, 0x61, 0x6d, 0, 0, 0, 0, 0, 0, 0, 4))
        & $word ([long]($Block.Values | Measure-Object -Sum).Sum -bor 4)
        foreach ($name in $Block.Keys) {
            $bytes.Add($name.Length)
            $bytes.AddRange([Text.Encoding]::ASCII.GetBytes($name))
            & $word $Block[$name]
        }

        # End of the RAM section, footer, end of the stream.
        & $word 16
        $bytes.AddRange([byte[]](0x7e, 0, 0, 0, 2, 0))
        [IO.File]::WriteAllBytes($Path, $bytes.ToArray())
    }

    function Get-Failed($Report) { ($Report.Checks | Where-Object -Not Passed).Name }
}

Describe 'Test-DeviceState -CprState' {
    BeforeEach {
        $null = Register-CprFd m0 -MemFd m0 -Size 64MB
        $null = Register-CprFd pc.bios -MemFd bios -Size 256KB
        $set = Get-CprFd
    }

    AfterEach {
        Close-CprState
    }

    It 'passes a set that agrees with itself, and gives true with -Quiet' {
        $report = Test-DeviceState -CprState $set -Reference $set
        $report.Passed | Should -BeTrue
        $report.Checks.Name | Should -Be UniqueKeys, Entries, Kinds, Sizes, Access, Objects
        Test-DeviceState -CprState $set -Quiet | Should -BeTrue
    }

    It 'finds <What> against another set' -ForEach @(
        @{ What = 'a missing entry'; Change = { Unregister-CprFd m0 }; Failed = 'Entries' }
        @{ What = 'another size'; Change = { Unregister-CprFd m0; Register-CprFd m0 -MemFd m0 -Size 32MB }; Failed = 'Sizes', 'Objects' }
        @{ What = 'other memory of the same size'; Change = { Unregister-CprFd m0; Register-CprFd m0 -MemFd m0 -Size 64MB }; Failed = 'Objects' }
        @{ What = 'something else than memory'; Change = { Unregister-CprFd m0; Register-CprFd m0 -Path /dev/null }; Failed = 'Kinds', 'Sizes' }
        @{ What = 'a second entry of a key'; Change = { Register-CprFd pc.bios -MemFd x -Size 256KB -Force }; Failed = 'UniqueKeys', 'Objects' }
    ) {
        $null = & $Change
        $report = Test-DeviceState -CprState (Get-CprFd) -Reference $set
        $report.Passed | Should -BeFalse
        Get-Failed $report | Should -Be $Failed
        ($report.Checks | Where-Object -Not Passed).RecommendedAction | Should -Match 'migrate_cancel'
    }

    It 'compares with a description' {
        $null = Save-CprState -Path "$TestDrive/set.json"
        Test-DeviceState -CprState $set -ReferencePath "$TestDrive/set.json" -Quiet | Should -BeTrue
        Get-Failed (Test-DeviceState -CprState $set[0] -ReferencePath "$TestDrive/set.json") | Should -Be Entries
    }

    It 'refuses <What> as a description' -ForEach @(
        @{ What = 'something else'; Text = 'no JSON'; Id = 'CprInvalidDescription' }
        @{ What = 'another kind'; Text = '{ "kind": "vm", "schemaVersion": 1 }'; Id = 'CprInvalidDescription' }
        @{ What = 'a later schema'; Text = '{ "kind": "cpr-state", "schemaVersion": 2 }'; Id = 'CprInvalidDescription' }
    ) {
        Set-Content "$TestDrive/bad.json" $Text
        Assert-Failure (Get-Failure { Test-DeviceState -CprState $set -ReferencePath "$TestDrive/bad.json" }) $Id InvalidData '*is not a description of a CPR set*' "$TestDrive/bad.json"
    }

    It 'passes a set that has memory for every RAM block of a stream' {
        New-Stream "$TestDrive/main" ([ordered]@{ 'm0' = 64MB; 'pc.bios' = 128KB })
        $report = Test-DeviceState -CprState $set -Stream "$TestDrive/main"
        $report.Passed | Should -BeTrue -Because $report
        $report.Checks.Name | Should -Be UniqueKeys, RamBlocks, RamKinds, RamSizes, RamAccess
    }

    It 'takes the folder of an archive for its main channel' {
        $null = New-Item -ItemType Directory -Path "$TestDrive/archive"
        Set-Content "$TestDrive/archive/a.json" '{}'
        New-Stream "$TestDrive/archive/main" ([ordered]@{ 'm0' = 64MB })
        Test-DeviceState -CprState $set -Stream "$TestDrive/archive" -Quiet | Should -BeTrue
    }

    It 'finds a RAM block without memory, unless the new process opens it by path' {
        New-Stream "$TestDrive/main" ([ordered]@{ 'm0' = 64MB; 'vga.vram' = 16MB })
        $report = Test-DeviceState -CprState $set -Stream "$TestDrive/main"
        Get-Failed $report | Should -Be RamBlocks
        ($report.Checks | Where-Object -Not Passed).Detail | Should -Match 'vga\.vram.*16,777,216 bytes'
        Test-DeviceState -CprState $set -Stream "$TestDrive/main" -OpenedByPath vga.vram -Quiet | Should -BeTrue
    }

    It 'finds memory that is too small' {
        New-Stream "$TestDrive/main" ([ordered]@{ 'm0' = 128MB })
        Get-Failed (Test-DeviceState -CprState $set -Stream "$TestDrive/main") | Should -Be RamSizes
    }

    It 'does not take a file that is no stream' {
        Set-Content "$TestDrive/text" 'no stream at all, but longer than a header'
        (Get-Failure { Test-DeviceState -CprState $set -Stream "$TestDrive/text" }).FullyQualifiedErrorId | Should -BeLike 'Stream*'
        Assert-Failure (Get-Failure { Test-DeviceState -CprState $set -Stream "$TestDrive/none" }) WireNotFound ObjectNotFound '*does not exist*' "$TestDrive/none"
    }
}
