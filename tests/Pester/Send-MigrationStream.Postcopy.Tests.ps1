BeforeAll {
    . "$PSScriptRoot/Support.ps1"

    # One object is both sides: what it saves goes to the end of what it has loaded.
    Add-Type -ReferencedAssemblies "$moduleFolder/MigrationOps.Shared.dll", System.Runtime, System.Collections -IgnoreWarnings -TypeDefinition @'
using System.Collections.Generic;
using MigrationOps;
public sealed class PesterLate : ISaveVmHandlers
{
    private int _left = 5;
    public bool Broken;
    public List<byte> Loaded = new List<byte>();
    public int Cleanups;
    public int Resumed;
    public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32(0);
    public bool HasPostcopy(SaveVmContext context) => true;
    public PendingBytes StatePendingEstimate(SaveVmContext context) => new PendingBytes(0, _left);
    public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context) { stream.WriteUInt32(0); return true; }
    public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32(0);
    public void SaveLiveCompletePostcopy(SaveVmSaveStream stream, SaveVmContext context)
    {
        if (Broken) { throw new System.IO.IOException("broken on purpose"); }
        stream.WriteUInt32(5);
        stream.WriteBytes(new byte[] { 1, 2, 3, 4, 5 });
    }
    public void ResumePrepare(SaveVmContext context) => Resumed++;
    public void SaveCleanup(SaveVmContext context) => Cleanups++;
    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId) => Loaded.AddRange(stream.ReadBytes((int)stream.ReadUInt32()));
    public void LoadCleanup(SaveVmContext context) => Cleanups++;
    public void Finish() { _left = 0; }
}
'@

    function Start-Target([string] $Socket, [hashtable] $Parameters = @{ Postcopy = $true }) {
        $job = Receive-MigrationStream unix:$Socket -AsJob @Parameters
        Wait-Until { Test-Path $Socket } 'the target listens'
        $job
    }
}

Describe 'Send-MigrationStream -Postcopy' {
    BeforeEach {
        $socket = New-SocketPath
        $device = [PesterLate]::new()
        $calls = [Collections.Generic.List[string]]::new()
        $null = Register-SaveVMHandler acme/late $device
        # The device stops changing when it stops.
        $stop = { $calls.Add('stop'); $device.Finish() }
    }

    AfterEach {
        foreach ($side in 'Send-MigrationStream', 'Receive-MigrationStream') {
            & $side -Abandon -ErrorAction Ignore
        }
        Get-SaveVMHandler | Unregister-SaveVMHandler
    }

    It 'lets the target run before everything has arrived' {
        $job = Start-Target $socket
        $sent = Send-MigrationStream unix:$socket -Postcopy -PostcopyAfter 0 -DowntimeLimit 0 -StopDevice $stop
        $sent.Postcopy | Should -BeTrue
        $sent.Owner | Should -Be Target
        $received = $job | Wait-Job | Receive-Job -Wait -AutoRemoveJob
        $received.Postcopy | Should -BeTrue
        $received.Bytes | Should -Be $sent.Bytes
        $device.Loaded | Should -Be 1, 2, 3, 4, 5
        $device.Cleanups | Should -Be 2
        $calls | Should -Be 'stop'
    }

    It 'stays in pre-copy when everything fits into the downtime' {
        $job = Start-Target $socket
        $device.Finish()
        (Send-MigrationStream unix:$socket -Postcopy).Postcopy | Should -BeFalse
        ($job | Wait-Job | Receive-Job -Wait -AutoRemoveJob).Postcopy | Should -BeFalse
    }

    It 'runs the script blocks of both sides, each on its side' {
        $shared = [hashtable]::Synchronized(@{ Started = 0; Listening = $false; State = '' })
        $shell = New-Shell -Parameters @{ Shared = $shared; Socket = $socket } -Script @'
            $null = Register-SaveVMHandler acme/log -LoadState { param($Stream) $p.Shared.State += [Text.Encoding]::ASCII.GetString($Stream.ReadBytes($Stream.ReadUInt32())) }
            Receive-MigrationStream unix:$($p.Socket) -Postcopy -StartDevice { $p.Shared.Started++; $p.Shared.State += '|' }
'@
        Get-SaveVMHandler | Unregister-SaveVMHandler
        $state = @{ Left = 3 }
        $null = Register-SaveVMHandler acme/log -SaveSetup { param($Stream) $Stream.WriteUInt32(0) } `
            -PendingEstimate { [MigrationOps.PendingBytes]::new(0, $state.Left) } -HasPostcopy { $true } `
            -SaveIterate { param($Stream) $Stream.WriteUInt32(1); $Stream.WriteBytes([byte[]]97); $state.Left-- ; $state.Left -eq 0 } `
            -SaveComplete { throw 'pre-copy' } -SaveCompletePostcopy { param($Stream) $Stream.WriteUInt32(1); $Stream.WriteBytes([byte[]]98) } -ResumePrepare { }
        $running = $shell.BeginInvoke()
        Wait-Until { Test-Path $socket } 'the target listens'
        $sent = Send-MigrationStream unix:$socket -Postcopy -PostcopyAfter 0 -DowntimeLimit 0 -MaxPostcopyBandwidth 1MB
        $received = $shell.EndInvoke($running)
        $shell.Dispose()
        $sent.Postcopy | Should -BeTrue
        $received.Owner | Should -Be Target
        $shared.State | Should -Be '|aaab'
        $shared.Started | Should -Be 1
    }

    It 'pauses both sides when it breaks, says whose the VM is, and continues with -Resume' {
        $job = Start-Target $socket
        $device.Broken = $true
        $failure = Get-Failure { Send-MigrationStream unix:$socket -Postcopy -PostcopyAfter 0 -DowntimeLimit 0 -StopDevice $stop -ResumeDevice { $calls.Add('resume') } }
        Assert-Failure $failure SaveVmPostcopyPaused ConnectionError '*broken on purpose*The migration is paused*stays stopped here.' "unix:$socket"
        $failure.Exception.Owner | Should -BeIn 'Target', 'Unknown'
        $failure.ErrorDetails.RecommendedAction | Should -BeLike '*-Resume*'
        $null = $job | Wait-Job
        $told = $job.Error[0]
        $told.FullyQualifiedErrorId | Should -BeLike 'SaveVmPostcopyPaused*'
        $told.Exception.Owner | Should -Be Target
        Remove-Job $job
        $device.Cleanups | Should -Be 0
        $calls | Should -Be 'stop'

        (Get-Failure { Send-MigrationStream unix:$socket }).FullyQualifiedErrorId | Should -BeLike 'SaveVmWrongPhase,*'
        (Get-Failure { Receive-MigrationStream unix:$socket }).FullyQualifiedErrorId | Should -BeLike 'SaveVmWrongPhase,*'
        (Get-Failure { Send-MigrationStream unix:$socket -Resume -Timeout 1 }).FullyQualifiedErrorId | Should -BeLike 'SaveVmPostcopyPaused,*'

        $device.Broken = $false
        $again = New-SocketPath
        $job = Start-Target $again @{ Resume = $true }
        $sent = Send-MigrationStream unix:$again -Resume
        $received = $job | Wait-Job | Receive-Job -Wait -AutoRemoveJob
        $sent.Recoveries, $received.Recoveries | Should -Be 1, 1
        $sent.Uri | Should -Be "unix:$again"
        $device.Loaded | Should -Be 1, 2, 3, 4, 5
        $device.Resumed | Should -BeGreaterOrEqual 1
        $device.Cleanups | Should -Be 2
        $calls | Should -Be 'stop'
    }

    It 'gives a paused migration up with -Abandon, and brings the device back only when told to' {
        $job = Start-Target $socket
        $device.Broken = $true
        $null = Get-Failure { Send-MigrationStream unix:$socket -Postcopy -PostcopyAfter 0 -DowntimeLimit 0 -StopDevice $stop -ResumeDevice { $calls.Add('never') } }
        $null = $job | Wait-Job | Remove-Job
        Send-MigrationStream -Abandon -WhatIf
        $device.Cleanups | Should -Be 0
        Send-MigrationStream -Abandon -ResumeDevice { $calls.Add('resume') } | Should -BeNullOrEmpty
        Receive-MigrationStream -Abandon
        $device.Cleanups | Should -Be 2
        $calls | Should -Be 'stop', 'resume'
        (Get-Failure { Send-MigrationStream -Abandon }).FullyQualifiedErrorId | Should -BeLike 'SaveVmWrongPhase,*'
    }

    It 'calls the cleanups of a paused migration when its session ends' {
        $shared = [hashtable]::Synchronized(@{ Device = $device; Module = $moduleFolder })
        $shell = New-Shell -Parameters @{ Shared = $shared; Socket = $socket } -Script @'
            $null = Register-SaveVMHandler acme/late $p.Shared.Device
            Send-MigrationStream unix:$($p.Socket) -Postcopy -PostcopyAfter 0 -DowntimeLimit 0 -StopDevice { $p.Shared.Device.Finish() } -ErrorAction SilentlyContinue
'@
        $job = Start-Target $socket
        $device.Broken = $true
        $null = $shell.EndInvoke($shell.BeginInvoke())
        $null = $job | Wait-Job | Remove-Job
        $device.Cleanups | Should -Be 0
        $shell.Runspace.Dispose()
        $shell.Dispose()
        $device.Cleanups | Should -Be 1
    }

    It 'refuses <Name>' -ForEach @(
        @{ Name = 'postcopy to a file'; Id = 'WireUnsupportedEndpoint'; Script = { Send-MigrationStream file:$TestDrive/x -Postcopy } }
        @{ Name = 'postcopy from a file'; Id = 'SaveVmInvalidOption'; Script = { Receive-MigrationStream file:$TestDrive/x -Postcopy } }
        @{ Name = 'postcopy into a spool'; Id = 'SaveVmInvalidOption'; Script = { Receive-MigrationStream unix:$socket -Postcopy -SpoolPath $TestDrive/x } }
        @{ Name = '-PostcopyAfter alone'; Id = 'SaveVmInvalidOption'; Script = { Send-MigrationStream unix:$socket -PostcopyAfter 2 } }
        @{ Name = 'a resume without a pause'; Id = 'SaveVmWrongPhase'; Script = { Send-MigrationStream unix:$socket -Resume } }
        @{ Name = 'a resume of the target without a pause'; Id = 'SaveVmWrongPhase'; Script = { Receive-MigrationStream unix:$socket -Resume } }
        @{ Name = 'a start script in a job'; Id = 'SaveVmInvalidHandlers'; Script = { Receive-MigrationStream unix:$socket -AsJob -StartDevice { } } }
    ) {
        (Get-Failure $Script).FullyQualifiedErrorId | Should -BeLike "$Id,*"
    }

    It 'is refused by a target that may not do it, and the device resumes here' {
        $job = Start-Target $socket @{}
        $failure = Get-Failure { Send-MigrationStream unix:$socket -Postcopy -PostcopyAfter 0 -DowntimeLimit 0 -StopDevice $stop -ResumeDevice { $calls.Add('resume') } }
        $failure.Exception.Owner | Should -Be Source
        $null = $job | Wait-Job
        $job.Error[0].FullyQualifiedErrorId | Should -BeLike 'SaveVmNotSupported*'
        Remove-Job $job
        ($calls | Where-Object { $_ -eq 'stop' }).Count | Should -Be ($calls | Where-Object { $_ -eq 'resume' }).Count
    }
}
