BeforeAll {
    . "$PSScriptRoot/Support.ps1"
}

Describe 'Resume-VfioDevice' {
    BeforeEach {
        $machine = New-MadeMachine
        $machine.AddPci('0000:3b:00.2', @(1, 2, 3), 'v', 11, $true)
    }
    AfterEach { $machine.Dispose() }

    It 'brings a device from <State> back to RUNNING with the state that it has' -ForEach @(
        @{ State = 'STOP' }, @{ State = 'STOP_COPY' }, @{ State = 'RUNNING_P2P' }, @{ State = 'RUNNING' }
    ) {
        $machine.SetState('0000:3b:00.2', $State)
        $change = Resume-VfioDevice -VfioDevice 0000:3b:00.2
        "$($change.Before) $($change.After) $($change.WasReset)" | Should -BeExactly "$State RUNNING False"
        "$($machine.GetState('0000:3b:00.2')) $($machine.GetContent('0000:3b:00.2')) $($machine.GetResets('0000:3b:00.2'))" | Should -BeExactly 'RUNNING 1 2 3 0'
    }

    It 'resets a device in <State> with -Reset alone' -ForEach @(
        @{ State = 'ERROR'; Id = 'VfioDeviceInError' }, @{ State = 'RESUMING'; Id = 'VfioLoadInterrupted' }
    ) {
        $machine.SetState('0000:3b:00.2', $State)
        $failure = Get-Failure { Resume-VfioDevice -VfioDevice 0000:3b:00.2 }
        $failure.FullyQualifiedErrorId | Should -BeLike "$Id,*"
        $failure.ErrorDetails.RecommendedAction | Should -BeLike '*Resume-VfioDevice -Reset*'
        $machine.GetState('0000:3b:00.2') | Should -BeExactly $State
        $change = Resume-VfioDevice -VfioDevice 0000:3b:00.2 -Reset
        "$($change.Before) $($change.After) $($change.WasReset)" | Should -BeExactly "$State RUNNING True"
        $machine.GetResets('0000:3b:00.2') | Should -Be 1
    }

    It 'takes devices from the pipeline, and does nothing with -WhatIf' {
        $machine.SetState('0000:3b:00.2', 'STOP')
        Get-VfioDevice | Resume-VfioDevice -WhatIf
        $machine.GetState('0000:3b:00.2') | Should -BeExactly STOP
        (Get-VfioDevice | Resume-VfioDevice).After | Should -BeExactly RUNNING
    }

    It 'warns before it uses a device without an IOMMU' {
        $machine.AddPci('0000:4b:00.0', @(1), 'v', 12, $false)
        $machine.MakeNoIommu(12)
        $null = Resume-VfioDevice 0000:4b:00.0 -WarningVariable warned -WarningAction SilentlyContinue
        "$warned" | Should -BeLike '*no IOMMU*tainted*'
    }
}
