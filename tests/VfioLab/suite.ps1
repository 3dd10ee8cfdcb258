<#
.SYNOPSIS
    Runs every command of VFIO devices on a real device of the lab guest, and says of each check whether it holds.
.DESCRIPTION
    The devices are two of the kernel's sample driver mtty, which keeps its registers and its migration state over close. What goes in and
    comes out of them is read and written by mtty.py, which knows nothing of the module.
#>
param(
    # The module's manifest.
    [string] $Manifest,

    # Which of the kernel's interfaces the commands are to take by themselves: CharacterDevice or Group.
    [string] $Interface,

    # The devices' names, and the nodes that mtty.py is to use.
    [string] $First,
    [string] $Second,
    [string] $FirstNode,
    [string] $SecondNode,

    # A PCI device that is bound to vfio-pci.
    [string] $Pci
)
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
Import-Module $Manifest
$script:failed = 0
$folder = [IO.Directory]::CreateTempSubdirectory('suite-').FullName

function Test-That([string] $What, [scriptblock] $Script) {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    try {
        $answer = & $Script
        $holds = $answer -is [bool] -and $answer
        $why = $holds ? '' : ": $($answer | Out-String)".TrimEnd()
    }
    catch {
        $holds = $false
        $why = ": $_ ($($_.FullyQualifiedErrorId))"
    }

    if (-not $holds) { $script:failed++ }
    '{0} {1} [{2:n1} s]{3}' -f ($holds ? 'ok    ' : 'FAILED'), $What, $clock.Elapsed.TotalSeconds, $why
}

function Get-FailureId([scriptblock] $Script) {
    try { $null = & $Script } catch { return $_.FullyQualifiedErrorId.Split(',')[0] }
    'nothing failed'
}

function Invoke-Mtty([string] $Node, [string] $Name, [string] $Command, [string] $Value) {
    $output = python3 "$PSScriptRoot/mtty.py" $Node $Name $Command $Value 2>&1
    if ($LASTEXITCODE) { throw "mtty.py: $output" }
    "$output"
}

# A process here brings it about; on a guest under TCG that may take minutes.
function Wait-Until([scriptblock] $Condition, [string] $What, [double] $Seconds = 300) {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    while (-not (& $Condition)) {
        if ($clock.Elapsed.TotalSeconds -gt $Seconds) { throw "Nothing within $Seconds s: $What" }
        Start-Sleep -Milliseconds 200
    }
}

# A QEMU that waits for a migration into the second device at a socket of the folder.
function Start-Target([string] $Name, [string] $Machine = '', [string] $Device = '') {
    $qemu = Start-Process qemu-system-x86_64 ("-machine pc-i440fx-10.0,accel=tcg -m 16 -nodefaults -display none $Machine -incoming unix:$folder/$Name.sock -qmp unix:$folder/$Name.qmp,server=on,wait=off -device vfio-pci,sysfsdev=/sys/bus/mdev/devices/$Second,enable-migration=on,x-device-dirty-page-tracking=off,addr=4$Device" -split ' +') -PassThru -RedirectStandardError "$folder/$Name.err"
    try {
        Wait-Until { if ($qemu.HasExited) { throw (Get-Content -Raw "$folder/$Name.err") }; Test-Path "$folder/$Name.sock" } 'QEMU listens'
        $qemu
    }
    catch {
        if (-not $qemu.HasExited) { $qemu.Kill() }
        throw
    }
}

# True, or what was found instead.
function Compare-With($Found, $Expected) {
    "$Found" -ceq "$Expected" ? $true : "expected '$Expected', found '$Found'"
}

Test-That 'Get-VfioDevice lists both devices through the interface that this kernel has, and opens none' {
    Compare-With (Get-VfioDevice | Where-Object MdevUuid | ForEach-Object { "$($_.Name) $($_.Interface) $($_.Usable) $($_.MdevType) $($_.Driver) $($_.Probed)" }) `
        "$First $Interface True mtty-1 mtty False $Second $Interface True mtty-1 mtty False"
}
Test-That 'Get-VfioDevice says of a device of vfio-pci that it cannot migrate' {
    Compare-With (Get-VfioDevice $Pci | ForEach-Object { "$($_.PciAddress) $($_.Driver) $($_.Usable) $($_.Reason)" }) "$Pci vfio-pci False VfioNotMigratable"
}
Test-That 'Get-VfioDevice -Probe asks the driver' {
    Compare-With (Get-VfioDevice $First -Probe | ForEach-Object { "$($_.Migratable) $($_.State) $($_.Flags -join ' ')" }) 'True RUNNING STOP_COPY P2P PRE_COPY'
}
Test-That 'Save-VfioState saves what the device holds, and leaves it in STOP' {
    Invoke-Mtty $FirstNode $First write Hello | Out-Null
    $script:saved = Save-VfioState -VfioDevice $First -Path "$folder/first.state"
    Compare-With "$($saved.Bytes -gt 0) $($saved.DeviceState) $(Invoke-Mtty $FirstNode $First state '')" 'True STOP 1'
}
Test-That 'The file passes, and its config state is one of 4096 bytes of PCI space' {
    Compare-With "$((Test-DeviceState -Path "$folder/first.state").Passed) $($saved.ConfigBytes)" "True $(12 + 4096 + 16 + 8)"
}
Test-That 'Restore-VfioState loads it into the other device' {
    $loaded = $saved | Restore-VfioState -VfioDevice $Second
    Compare-With "$($loaded.Sha256 -ceq $saved.Sha256) $($loaded.DeviceState) $(Invoke-Mtty $SecondNode $Second read 5)" 'True RUNNING Hello'
}
Test-That 'Resume-VfioDevice brings the saved device back, and it holds what it held' {
    $change = Resume-VfioDevice $First
    Compare-With "$($change.Before) $($change.After) $($change.WasReset) $(Invoke-Mtty $FirstNode $First state '')" 'STOP RUNNING False 2'
}
Test-That 'Save-VfioState -Marker and Restore-VfioState -Marker do the same with a section of a stream' {
    $marked = Save-VfioState -VfioDevice $First -Path "$folder/first.markers" -Marker
    $null = Resume-VfioDevice $First
    $loaded = Restore-VfioState -VfioDevice $Second -Path "$folder/first.markers" -Marker
    Compare-With "$($loaded.Sha256 -ceq $marked.Sha256) $(Invoke-Mtty $SecondNode $Second read 5)" 'True Hello'
}
Test-That 'Save-VfioState onto a full disk leaves the device running and says so' {
    $null = New-Item -ItemType Directory "$folder/full"
    # One page is left: the header and the state fit, the config state does not.
    mount -t tmpfs -o size=8k tmpfs "$folder/full"
    try {
        [IO.File]::WriteAllBytes("$folder/full/ballast", [byte[]]::new(4096))
        $id = Get-FailureId { Save-VfioState -VfioDevice $First -Path "$folder/full/first.state" -WarningVariable script:warned -WarningAction SilentlyContinue }
    }
    finally {
        $left = Get-ChildItem -Force -Name "$folder/full"
        umount "$folder/full"
        $unmounted = $LASTEXITCODE -eq 0
    }
    Compare-With "$($id -match 'NoSpace') $left $unmounted $(Invoke-Mtty $FirstNode $First state '') $warned" "True ballast True 2 '$($Interface -eq 'Group' ? $First : $FirstNode)' is back in RUNNING and has lost nothing."
}
Test-That 'The save after it works' {
    $again = Save-VfioState -VfioDevice $First -Path "$folder/again.state"
    $null = Resume-VfioDevice $First
    Compare-With $again.Bytes $saved.Bytes
}
foreach ($state in @{ Number = 1; Name = 'STOP' }, @{ Number = 3; Name = 'STOP_COPY' }, @{ Number = 5; Name = 'RUNNING_P2P' }, @{ Number = 6; Name = 'PRE_COPY' }) {
    Test-That "Save-VfioState begins from $($state.Name), as a process that ended left it" {
        $null = Invoke-Mtty $FirstNode $First set $state.Number
        $again = Save-VfioState -VfioDevice $First -Path "$folder/again.state"
        Compare-With "$($again.Bytes) $((Resume-VfioDevice $First).After)" "$($saved.Bytes) RUNNING"
    }
    Test-That "Restore-VfioState begins from $($state.Name)" {
        $null = Invoke-Mtty $SecondNode $Second set $state.Number
        $null = Restore-VfioState -VfioDevice $Second -Path "$folder/first.state"
        Compare-With (Invoke-Mtty $SecondNode $Second read 5) 'Hello'
    }
    Test-That "Resume-VfioDevice begins from $($state.Name)" {
        $null = Invoke-Mtty $FirstNode $First set $state.Number
        Compare-With ((Resume-VfioDevice $First) | ForEach-Object { "$($_.Before) $($_.After)" }) "$($state.Name) RUNNING"
    }
}
Test-That 'A device that another process holds is named with that process, before and when it is used' {
    $holder = Start-Process python3 "$PSScriptRoot/mtty.py", $FirstNode, $First, 'hold', '600' -PassThru -RedirectStandardOutput "$folder/held"
    try {
        Wait-Until { Get-Content "$folder/held" } 'mtty.py holds the device'
        $listed = Get-VfioDevice $First
        $id = Get-FailureId { Save-VfioState -VfioDevice $First -Path "$folder/held.state" }
        Compare-With "$($listed.Reason) $($listed.Holders) $id" "VfioDeviceBusy $($holder.Id) (python3) VfioDeviceBusy"
    }
    finally { $holder | Stop-Process; $holder.WaitForExit() }
}
Test-That 'Send-VfioMultifdState from one device, Receive-VfioMultifdState into the other' {
    $job = Receive-VfioMultifdState -Uri "unix:$folder/m.sock" -VfioDevice $Second -AsJob -Timeout 120
    Wait-Until { $job.State -ne 'Running' -or (Test-Path "$folder/m.sock") } 'the receiver listens'
    $sent = Send-VfioMultifdState -VfioDevice $First -Uri "unix:$folder/m.sock" -Channels 2 -Timeout 120
    $received = $job | Wait-Job | Receive-Job -Wait -AutoRemoveJob
    $null = Resume-VfioDevice $First
    Compare-With "$($received.Sha256 -ceq $sent.Sha256) $($received.Path) $(Invoke-Mtty $SecondNode $Second read 5)" "True $(($Interface -eq 'Group') ? $Second : $SecondNode) Hello"
}
Test-That 'Register-SaveVMHandler -VfioDevice to a real QEMU: it loads the device, its config state too' {
    $qemu = Start-Target q
    try {
        $null = Register-SaveVMHandler -VfioDevice $First -IdStr 0000:00:04.0/vfio
        $sent = Send-MigrationStream -Uri "unix:$folder/q.sock" -MachineType pc-i440fx-10.0 -ReturnPath -Timeout 120
        $status = (Get-QemuMigration -Monitor "$folder/q.qmp" -Watch -Timeout 60 | Select-Object -Last 1).Status
        $runs = (Invoke-QemuMonitorCommand query-status -Monitor "$folder/q.qmp").status
        # A QEMU that does not run keeps the device in RESUMING, and the driver takes the state when it leaves that.
        Compare-With "$($sent.Confirmed) $status $runs $(Select-String -Path "$folder/q.err" -Pattern 'fail' | ForEach-Object Line)".Trim() 'True completed running'
    }
    finally {
        Get-SaveVMHandler | Unregister-SaveVMHandler
        if (-not $qemu.HasExited) { $qemu.Kill(); $qemu.WaitForExit() }
    }
}
Test-That 'What QEMU loaded is in the device' {
    $null = Resume-VfioDevice $First
    Compare-With "$(Invoke-Mtty $SecondNode $Second read 5) $(Invoke-Mtty $FirstNode $First state '')" 'Hello 2'
}
Test-That 'A QEMU that refuses the config state, of another model, says so, and the device runs here' {
    $qemu = Start-Target r -Machine '-S' -Device ',x-pci-device-id=0x1234'
    try {
        $null = Register-SaveVMHandler -VfioDevice $First -IdStr 0000:00:04.0/vfio
        $id = Get-FailureId { Send-MigrationStream -Uri "unix:$folder/r.sock" -MachineType pc-i440fx-10.0 -ReturnPath -Timeout 120 }
        Compare-With "$($id -ne 'nothing failed') $(Invoke-Mtty $FirstNode $First state '')" 'True 2'
    }
    finally {
        Get-SaveVMHandler | Unregister-SaveVMHandler
        if (-not $qemu.HasExited) { $qemu.Kill(); $qemu.WaitForExit() }
    }
}
Remove-Item -Recurse -Force $folder
"$($script:failed) failed"
exit [Math]::Min($script:failed, 100)
