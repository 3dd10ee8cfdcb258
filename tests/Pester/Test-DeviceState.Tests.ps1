BeforeAll {
    . "$PSScriptRoot/Support.ps1"

    # The failed checks of a report, by name.
    function Get-FailedCheck {
        param($Report)
        @($Report.Checks | Where-Object -Not -Property Passed)
    }
}

Describe 'Test-DeviceState' {
    AfterEach {
        Stop-StartedBackend
        Get-ChildItem -LiteralPath $TestDrive -Force | Remove-Item -Recurse -Force
    }

    Context 'of a file' {
        BeforeEach {
            $saved = Start-VhostStateSave (Start-Backend -Size 3MB).SocketPath "$TestDrive/a.state"
        }

        It 'passes what was saved, with a list of named checks' {
            $report = Test-DeviceState -Path "$TestDrive/a.state"
            $report | Should -BeOfType MigrationOps.DeviceStateReport
            $report.Passed | Should -BeTrue
            $report.Target | Should -Be "$TestDrive/a.state"
            $report.Checks.Name | Should -Be Manifest, Format, Complete, Digest, ManifestMatches
            $report.Checks.Passed | Should -Not -Contain $false
            $report.Checks.Detail | Should -Not -Contain ''
        }

        It 'gives a bool with -Quiet' {
            Test-DeviceState "$TestDrive/a.state" -Quiet | Should -BeTrue
            Test-DeviceState "$TestDrive/none.state" -Quiet | Should -BeFalse
        }

        It 'takes path and SHA-256 from the result of a save' {
            ($saved | Test-DeviceState).Checks.Name | Should -Contain ExpectedSha256
            $null = Start-VhostStateSave (Start-Backend -Size 2MB).SocketPath "$TestDrive/a.state"
            (Get-FailedCheck ($saved | Test-DeviceState)).Name | Should -Be ExpectedSha256
        }

        It 'takes the files of a directory' {
            $null = Start-VhostStateSave (Start-Backend).SocketPath "$TestDrive/b.state"
            'no state' | Set-Content -LiteralPath "$TestDrive/c.state"
            $failed = Get-ChildItem -Path "$TestDrive/*.state" | Test-DeviceState | Where-Object -Not -Property Passed
            $failed.Target | Should -Be "$TestDrive/c.state"
            Get-ChildItem -Path "$TestDrive/*.state" | Test-DeviceState -Quiet | Should -Be $true, $true, $false
        }

        It 'finds a file that is <Name>: <Check>' -ForEach @(
            @{ Name = 'cut'; Check = 'Complete'; Detail = '*truncated*'; Damage = { param($file) $file.SetLength($file.Length - 500KB) } }
            @{ Name = 'empty'; Check = 'Complete'; Detail = '*0 of 32 bytes*'; Damage = { param($file) $file.SetLength(0) } }
            @{ Name = 'longer than it was'; Check = 'NoTrailingBytes'; Detail = '*has data behind the end*'; Damage = { param($file) $file.Position = $file.Length; $file.WriteByte(0) } }
            @{ Name = 'damaged'; Check = 'Digest'; Detail = '*SHA-256*'; Damage = { param($file) $file.Position = 100000; $byte = $file.ReadByte(); $file.Position = 100000; $file.WriteByte($byte -bxor 1) } }
            @{ Name = 'of another sort'; Check = 'Format'; Detail = '*is not a state file*'; Damage = { param($file) $file.WriteByte(0x7f) } }
        ) {
            $file = [IO.File]::Open("$TestDrive/a.state", 'Open', 'ReadWrite')
            & $Damage $file
            $file.Dispose()
            $report = Test-DeviceState "$TestDrive/a.state"
            $report.Passed | Should -BeFalse
            $failed = Get-FailedCheck $report
            $failed.Name | Should -Be $Check
            $failed.Detail | Should -BeLike $Detail
            $failed.RecommendedAction | Should -Not -BeNullOrEmpty
        }

        It 'misses the manifest' {
            Remove-Item -LiteralPath "$TestDrive/a.state.json"
            $failed = Get-FailedCheck (Test-DeviceState "$TestDrive/a.state")
            $failed.Name | Should -Be Manifest
            $failed.Detail | Should -BeLike '*a.state.json* does not exist*'
        }

        It 'cannot read the manifest' {
            '{ "no": ' | Set-Content -LiteralPath "$TestDrive/a.state.json"
            (Get-FailedCheck (Test-DeviceState "$TestDrive/a.state")).Name | Should -Be Manifest
        }

        It 'finds the manifest of another state' {
            $null = Start-VhostStateSave (Start-Backend -Size 3MB).SocketPath "$TestDrive/b.state"
            Copy-Item -LiteralPath "$TestDrive/b.state.json" -Destination "$TestDrive/a.state.json"
            $failed = Get-FailedCheck (Test-DeviceState "$TestDrive/a.state")
            $failed.Name | Should -Be ManifestMatches
            $failed.Detail | Should -BeLike '*describes another state*'
        }

        It 'tests bare bytes by their manifest' {
            $null = Start-VhostStateSave (Start-Backend).SocketPath "$TestDrive/r.raw" -Raw
            Test-DeviceState "$TestDrive/r.raw" -Raw -Quiet | Should -BeTrue
            [IO.File]::AppendAllText("$TestDrive/r.raw", 'x')
            (Get-FailedCheck (Test-DeviceState "$TestDrive/r.raw" -Raw)).Name | Should -Be NoTrailingBytes
        }

        It 'makes a file that is not there a failed check' {
            $report = Test-DeviceState "$TestDrive/none.state"
            (Get-FailedCheck $report).Name | Should -Be Open
            (Get-FailedCheck $report).RecommendedAction | Should -Not -BeNullOrEmpty
        }

        It 'returns a report that survives JSON and CLIXML' {
            $report = Test-DeviceState "$TestDrive/a.state"
            ($report | ConvertTo-Json -Depth 4 | ConvertFrom-Json).Checks.Name | Should -Be $report.Checks.Name
            $report | Export-Clixml -LiteralPath "$TestDrive/report.xml"
            (Import-Clixml -LiteralPath "$TestDrive/report.xml").Passed | Should -BeTrue
        }

        It 'prints a line for each check, and what to do about the failed ones' {
            Remove-Item -LiteralPath "$TestDrive/a.state.json"
            $lines = (Test-DeviceState "$TestDrive/a.state" | Out-String -Width 80).Trim().Split("`n")
            $lines[0] | Should -Be "$TestDrive/a.state: FAILED"
            # What failed comes first.
            $lines[1] | Should -Match '^  FAILED  Manifest '
            ($lines -match '^          -> Copy the manifest').Count | Should -Be 1
            ($lines -match '^  passed  Digest ').Count | Should -Be 1
        }
    }

    Context 'of a live back-end' {
        It 'passes one that can transfer its state' {
            $backend = Start-Backend
            $report = Test-DeviceState -SocketPath $backend.SocketPath
            $report.Passed | Should -BeTrue
            $report.Checks.Name | Should -Be Connect, Negotiation, DeviceStateFeature
            $backend.BytesSaved | Should -Be 0
        }

        It 'saves and checks with -RoundTrip' {
            $backend = Start-Backend -Size 2MB
            $report = Test-DeviceState -SocketPath $backend.SocketPath -RoundTrip
            $report.Checks.Name | Should -Be Connect, Negotiation, DeviceStateFeature, Save, BackendCheck
            $report.Passed | Should -BeTrue
            $backend.BytesSaved | Should -Be 2MB
        }

        It 'fails at <Check> when it is <Name>' -ForEach @(
            @{ Name = 'without DEVICE_STATE'; Check = 'DeviceStateFeature'; Parameters = @{ NoDeviceState = $true } }
            @{ Name = 'without protocol features'; Check = 'DeviceStateFeature'; Parameters = @{ NoProtocolFeatures = $true } }
            @{ Name = 'silent'; Check = 'Negotiation'; Parameters = @{ Fault = 'NoReply'; FaultRequest = 'GetFeatures' } }
            @{ Name = 'refusing'; Check = 'Save'; Parameters = @{ Fault = 'Refuse' } }
            @{ Name = 'stalling'; Check = 'Save'; Parameters = @{ Fault = 'Stall'; FaultByte = 10 } }
            @{ Name = 'failing at its check'; Check = 'BackendCheck'; Parameters = @{ Fault = 'FailCheck' } }
        ) {
            $report = Test-DeviceState -SocketPath (Start-Backend @Parameters).SocketPath -RoundTrip -Timeout 0.3
            $report.Passed | Should -BeFalse
            (Get-FailedCheck $report).Name | Should -Be $Check
            (Get-FailedCheck $report).RecommendedAction | Should -Not -BeNullOrEmpty
        }

        It 'fails at Connect where no process listens' {
            (Get-FailedCheck (Test-DeviceState -SocketPath "$TestDrive/none.sock")).Name | Should -Be Connect
        }

        It 'ends within a second on Ctrl-C' {
            $backend = Start-Backend -Fault Stall -FaultByte 1000
            $shell = New-Shell 'Test-DeviceState -SocketPath $p.Socket -RoundTrip' @{ Socket = $backend.SocketPath }
            $null = $shell.BeginInvoke()
            Wait-Until { $backend.BytesSaved -eq 1000 } 'the stall'
            $clock = [Diagnostics.Stopwatch]::StartNew()
            $shell.Stop()
            $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
            $shell.Dispose()
        }
    }
}
