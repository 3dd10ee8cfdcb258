# A migration of two real VFIO devices, and receivers for it. To be dot-sourced in BeforeAll, after Support.ps1.
$capture = "$repository/tests/MigrationOps.Engine.Tests/Vectors/vfio/10-big2dev-precopy-3ch-switchover-ack"

# A source keeps its main channel open until the target has said how it ended: SHUT on the return path, or the end of it.
function Wait-Shut {
    param([Net.Sockets.Socket] $Connection)
    $Connection.ReceiveTimeout = 30000
    $answers = [Collections.Generic.List[byte]]::new()
    $buffer = [byte[]]::new(4096)
    for ($at = 0; ($count = $Connection.Receive($buffer)) -gt 0;) {
        $answers.AddRange([byte[]]$buffer[0..($count - 1)])
        while ($answers.Count - $at -ge 4 -and $answers.Count -ge ($next = $at + 4 + 256 * $answers[$at + 2] + $answers[$at + 3])) {
            if ($answers[$at + 1] -eq 1) { return }
            $at = $next
        }
    }
}

# A real source's bytes, connection by connection, as it sent them.
function Send-Capture {
    param([string] $Socket, [string] $Folder = $capture, [long] $Cut = [long]::MaxValue, [switch] $MayFail)
    $open = foreach ($file in Get-ChildItem -Path "$Folder/conn*.c2s.bin" | Sort-Object -Property Name) {
        $connection = [Net.Sockets.Socket]::new('Unix', 'Stream', 'Unspecified')
        $connection.Connect([Net.Sockets.UnixDomainSocketEndPoint]::new($Socket))
        $bytes = [IO.File]::ReadAllBytes($file.FullName)
        if ($bytes.Length -gt $Cut) { $bytes = $bytes[0..($Cut - 1)] }
        [pscustomobject]@{ Connection = $connection; Bytes = $bytes; Sent = $null; IsMain = [Text.Encoding]::ASCII.GetString($bytes, 0, 4) -eq 'QEVM' }
    }
    # After all have connected: a receiver that sees a fault stops listening.
    foreach ($one in $open) { $one.Sent = $one.Connection.SendAsync([ArraySegment[byte]]::new($one.Bytes), 'None') }
    foreach ($one in $open | Sort-Object -Property IsMain) {
        try {
            $null = $one.Sent.GetAwaiter().GetResult()
            if ($one.IsMain -and $Cut -eq [long]::MaxValue) { Wait-Shut $one.Connection }
            $one.Connection.Shutdown('Send')
        }
        # A receiver that has seen the fault does not read on.
        catch { if ($Cut -eq [long]::MaxValue -and -not $MayFail) { throw } }
    }

    $open
}

function Start-Receipt {
    param([string] $Name, [hashtable] $More = @{})
    $socket = "$TestDrive/$Name.sock"
    if (-not ($More.Destination -or $More.Archive)) { $More = $More + @{ Destination = (New-Item -ItemType Directory -Path "$TestDrive/$Name.kept" -Force).FullName } }
    $job = Receive-VfioMultifdState -Uri "unix:$socket" -Timeout 60 -AsJob @More
    # The job is given back when the socket is listened on.
    Test-Path -LiteralPath $socket | Should -BeTrue -Because "$($job.Error)"
    [pscustomobject]@{ Job = $job; Socket = $socket }
}

function Complete-Receipt {
    param($Receipt)
    $null = Wait-Job -Job $Receipt.Job -Timeout 30
    $result = Receive-Job -Job $Receipt.Job -ErrorVariable script:failure -ErrorAction SilentlyContinue
    Remove-Job -Job $Receipt.Job -Force
    $result
}
