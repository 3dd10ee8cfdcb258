BeforeAll {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/MonitorSupport.ps1"
}

Describe 'Resume-QemuMigration' {
    AfterEach {
        Stop-StartedMonitor
        Get-ChildItem -LiteralPath $TestDrive -Force | Remove-Item -Recurse -Force
    }

    It 'continues a migration that this session holds' {
        $source = Connect-Monitor (Start-Qemu).Path
        $target = Connect-Monitor (Start-Qemu -ArgumentList '-incoming', 'defer').Path
        $job = Start-QemuMigration $source $target -Hold -Journal "$TestDrive/move.jsonl" -AsJob
        Wait-Until { (Test-Path -LiteralPath "$TestDrive/move.jsonl") -and (Get-Content -LiteralPath "$TestDrive/move.jsonl" -Raw) -match '"held"' } 'the hold'
        $job.State | Should -Be Running
        Resume-QemuMigration $source
        ($job | Wait-Job | Receive-Job -Wait).RunsAt | Should -Be Target
        $job | Remove-Job
    }

    It 'says what can be resumed' {
        $scripted = Start-Monitor
        Assert-Failure (Get-Failure { Resume-QemuMigration $scripted.Path }) MoveNotResumable InvalidOperation '*expected a migration that is held*' $scripted.Uri
    }

    It 'does nothing with -WhatIf' {
        $scripted = Start-Monitor
        Resume-QemuMigration $scripted.Path -WhatIf
        Get-ReceivedCommand $scripted | Should -BeNullOrEmpty
    }
}
