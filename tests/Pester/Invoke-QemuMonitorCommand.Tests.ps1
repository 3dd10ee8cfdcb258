BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
}

Describe 'Invoke-QemuMonitorCommand' {
    AfterEach {
        Stop-StartedMonitor
    }

    It 'gives objects with QEMU''s own member names' {
        $monitor = Connect-Monitor (Start-Monitor @{ 'query-x' = '[{"qom-path": "/a", "n": 5, "big": 18446744073709551615, "r": 1.5, "on": true, "no": null, "in": {"list": [1, 2]}}, {"qom-path": "/b"}]' }).Path
        $items = $monitor | Invoke-QemuMonitorCommand query-x
        $items.'qom-path' | Should -Be '/a', '/b'
        $items[0].n | Should -BeOfType long
        $items[0].big | Should -Be ([ulong]::MaxValue)
        $items[0].r, $items[0].on, $items[0].no, $items[0].in.list[1] | Should -Be 1.5, $true, $null, 2
    }

    It 'gives nothing for an empty object, and the text with -Raw' {
        $monitor = Connect-Monitor (Start-Monitor).Path
        $monitor | Invoke-QemuMonitorCommand stop | Should -BeNullOrEmpty
        $monitor | Invoke-QemuMonitorCommand query-name -Raw | ConvertFrom-Json | Select-Object -ExpandProperty name | Should -Be web01
    }

    It 'connects for itself to a path, and leaves' {
        $scripted = Start-Monitor
        (Invoke-QemuMonitorCommand -Monitor $scripted.Path query-status).status | Should -Be running
        (Invoke-QemuMonitorCommand -Monitor $scripted.Uri query-status).status | Should -Be running
    }

    It 'sends what a hashtable can have' {
        $scripted = Start-Monitor @{ set = '{}' }
        $monitor = Connect-Monitor $scripted.Path
        $secret = ConvertTo-SecureString hunter2 -AsPlainText -Force
        $monitor | Invoke-QemuMonitorCommand set @{ text = 'ü'; n = 5; r = 1.5; on = $true; no = $null; list = 1, 'a'; in = [pscustomobject]@{ a = 1 }; secret = $secret; day = [DayOfWeek]::Friday }
        $sent = @($scripted.Server.GetType().GetProperty('Commands', $anyMember).GetValue($scripted.Server))[-1].Arguments.GetRawText() | ConvertFrom-Json
        $sent.text, $sent.n, $sent.r, $sent.on, $sent.no, $sent.list[1], $sent.in.a, $sent.secret, $sent.day | Should -Be 'ü', 5, 1.5, $true, $null, a, 1, hunter2, Friday
    }

    It 'refuses a value that QMP cannot carry, without showing it' {
        $monitor = Connect-Monitor (Start-Monitor).Path
        $failure = Get-Failure { $monitor | Invoke-QemuMonitorCommand set @{ a = @{ b = [Diagnostics.Stopwatch]::StartNew() } } }
        $failure.FullyQualifiedErrorId | Should -BeLike 'QmpInvalidArgument,*'
        $failure.Exception.Message | Should -BeLike '*arguments.a.b*Stopwatch*'
    }

    It 'tells QEMU''s error' {
        $scripted = Start-Monitor @{ bad = 'error: it is so' }
        $monitor = Connect-Monitor $scripted.Path
        $failure = Get-Failure { $monitor | Invoke-QemuMonitorCommand bad }
        Assert-Failure $failure QmpCommandFailed InvalidResult '*it is so*' $scripted.Uri
        $failure.Exception.QemuClass | Should -Be GenericError
        (Get-Failure { $monitor | Invoke-QemuMonitorCommand no-such }).FullyQualifiedErrorId | Should -BeLike 'QmpCommandNotFound,*'
    }

    It 'changes nothing with -WhatIf, and asks all the same' {
        $scripted = Start-Monitor
        $monitor = Connect-Monitor $scripted.Path
        $monitor | Invoke-QemuMonitorCommand stop -WhatIf
        ($monitor | Invoke-QemuMonitorCommand query-status -WhatIf).status | Should -Be running
        Get-ReceivedCommand $scripted | Should -Not -Contain stop
    }

    It 'changes nothing through a read-only monitor' {
        $scripted = Start-Monitor
        $monitor = Connect-Monitor $scripted.Path -ReadOnly
        (Get-Failure { $monitor | Invoke-QemuMonitorCommand stop }).FullyQualifiedErrorId | Should -BeLike 'QmpReadOnly,*'
        Get-ReceivedCommand $scripted | Should -Not -Contain stop
    }

    It 'waits no longer than -Timeout' {
        $scripted = Start-Monitor @{ slow = 'nothing'; 'query-yank' = 'nothing' }
        $monitor = Connect-Monitor $scripted.Path -Timeout 0.5
        (Get-Failure { $monitor | Invoke-QemuMonitorCommand slow }).FullyQualifiedErrorId | Should -BeLike 'QmpNoReply,*'
    }

    It 'ends on Ctrl-C' {
        $scripted = Start-Monitor @{ slow = 'nothing' }
        $shell = New-Shell 'Invoke-QemuMonitorCommand -Monitor $p.Path slow -Confirm:$false' @{ Path = $scripted.Path }
        $null = $shell.BeginInvoke()
        Wait-Until { (Get-ReceivedCommand $scripted) -contains 'slow' } 'the command'
        $clock = [Diagnostics.Stopwatch]::StartNew()
        $shell.Stop()
        $clock.Elapsed.TotalSeconds | Should -BeLessThan 20
        $shell.Dispose()
    }

    It 'keeps secrets out of -Verbose, -Debug and -LogPath' {
        $scripted = Start-Monitor @{ 'object-add' = 'error: no' }
        $monitor = Connect-Monitor $scripted.Path -LogPath "$TestDrive/log"
        $output = $monitor | Invoke-QemuMonitorCommand object-add @{ 'qom-type' = 'secret'; id = 's'; data = 'hunter2' } -Verbose -Debug -LogPath "$TestDrive/log" -ErrorAction Continue *>&1
        "$output" | Should -BeLike '*object-add*'
        "$output" | Should -Not -BeLike '*hunter2*'
        Get-Content -LiteralPath "$TestDrive/log" -Raw | Should -Not -BeLike '*hunter2*'
    }

    It 'keeps a SecureString out of the transcript' {
        $scripted = Start-Monitor @{ 'object-add' = 'error: no' }
        $monitor = Connect-Monitor $scripted.Path
        $secret = ConvertTo-SecureString hunter2 -AsPlainText -Force
        $null = Start-Transcript -LiteralPath "$TestDrive/transcript"
        try {
            $monitor | Invoke-QemuMonitorCommand object-add @{ 'qom-type' = 'secret'; id = 's'; data = $secret } -Verbose -ErrorAction Continue *>&1 | Out-String | Out-Host
        }
        finally { $null = Stop-Transcript }
        Get-Content -LiteralPath "$TestDrive/transcript" -Raw | Should -BeLike '*object-add*'
        Get-Content -LiteralPath "$TestDrive/transcript" -Raw | Should -Not -BeLike '*hunter2*'
    }

    It 'completes commands and arguments from the schema of the QEMU' {
        $qemu = Start-Qemu
        $monitor = Connect-Monitor $qemu.Path
        $completions = (TabExpansion2 -inputScript ($text = 'Invoke-QemuMonitorCommand query-migrate-c') -cursorColumn $text.Length).CompletionMatches
        $completions.CompletionText | Should -Contain query-migrate-capabilities
        $completions = (TabExpansion2 -inputScript ($text = 'Invoke-QemuMonitorCommand qom-get ') -cursorColumn $text.Length).CompletionMatches
        $completions[0].CompletionText | Should -Be "@{ 'path' = ''; 'property' = '' }"
        $completions[0].ToolTip | Should -BeLike '*path: str*'
    }
}
