# Jobs and remoting serialise what a cmdlet gives. Every output type has to arrive with the values that it left with, and to
# look the same.
BeforeDiscovery {
    . "$PSScriptRoot/Support.ps1"
    . "$PSScriptRoot/Samples.ps1"
    $cases = Get-ResultType | ForEach-Object { @{ Type = $_; Name = $_.Name } }
    if ($cases.Count -lt 15) {
        throw "Only $($cases.Count) output types were found."
    }
}

BeforeAll {
    . "$PSScriptRoot/Support.ps1"

    . "$PSScriptRoot/Samples.ps1"
}

Describe 'What jobs and remoting make of a <Name>' -ForEach $cases {
    BeforeAll {
        $script:counter = 0
        $sample = New-Sample $Type
        # As remoting does it: one level, unless the type asks for more.
        $arrived = [Management.Automation.PSSerializer]::Deserialize([Management.Automation.PSSerializer]::Serialize($sample, 1))
    }

    It 'has the values that it left with' {
        { Compare-Sample $sample $arrived $Name } | Should -Not -Throw
    }

    It 'looks as it did' {
        ($arrived | Out-String) | Should -BeExactly ($sample | Out-String)
    }
}

Describe 'An error of a job' {
    It 'tells its name in FullyQualifiedErrorId' {
        $job = Start-Job -ArgumentList (Get-Module MigrationOps).Path { param($module) Import-Module $module; Get-VhostBackend -SocketPath /nonexistent.sock }
        $job | Wait-Job | Receive-Job -Wait -AutoRemoveJob -ErrorVariable problem -ErrorAction SilentlyContinue
        ($problem[0].FullyQualifiedErrorId -split ',')[0] | Should -Be 'WireNotFound'
        $problem[0].Exception.SerializedRemoteException.ErrorId | Should -Be 'WireNotFound'
    }
}
