using System.Globalization;
using System.Net.Sockets;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Interop.Tests;

namespace MigrationOps.Module.Tests;

/// <summary>Two processes with the module, and a slow network between them.</summary>
public sealed class ShapedLoopbackTests : IDisposable
{
    private const long Network = 8 << 20;

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_device_that_changes_slower_than_the_network_converges_and_arrives_whole()
    {
        var (source, target, passed) = Migrate(size: 8 << 20, dirtyPerSecond: Network / 3, "-DowntimeLimit 0.03 -MaxDuration 120");
        var sent = Figures(source);
        var received = Figures(target);
        Assert.True(sent["Rounds"] >= 2, source);
        Assert.Equal(sent["Written"], received["Written"]);
        Assert.Equal((sent["Bytes"], sent["Bytes"]), (received["Bytes"], passed));
        Assert.True(sent["Written"] > 8 << 20, "Nothing changed while it was sent.");
        // A loaded machine makes both slower, never faster: nothing goes by the network's limit.
        Assert.True(sent["Milliseconds"] >= 950 * sent["Bytes"] / Network, source);
        // What was measured is the network's, not loopback's, which is a hundred times as fast; the kernel's buffers may add to it.
        Assert.True(sent["Bandwidth"] < 10 * Network, source);
        Assert.Contains("stop resume:0 cleanup:1", source, StringComparison.Ordinal);
        Assert.Contains("cleanup:1", target, StringComparison.Ordinal);
    }

    [Fact]
    public void A_device_that_changes_faster_than_the_network_is_given_up_with_the_reason_and_goes_on()
    {
        var (source, target, _) = Migrate(size: 32 << 20, dirtyPerSecond: 4 * Network, "-DowntimeLimit 0.02 -MaxDuration 4");
        Assert.Contains("SaveVmDidNotConverge,", source, StringComparison.Ordinal);
        Assert.Matches(@"did not converge within 4 s: [\d,]+ bytes are pending, and [\d,]+ fit into a downtime of 20 ms at the measured [\d,]+ bytes/s", source);
        Assert.Contains("running resume:0 cleanup:1", source, StringComparison.Ordinal);
        Assert.Matches("(StreamTruncated|SaveVmConnectionLost),", target);
        Assert.Contains("cleanup:1", target, StringComparison.Ordinal);
    }

    private static Dictionary<string, long> Figures(string output) => output.Split('\n').Where(l => l.StartsWith("figure ", StringComparison.Ordinal))
        .Select(l => l.Trim().Split(' ')).ToDictionary(f => f[1], f => long.Parse(f[2], CultureInfo.InvariantCulture));

    private (string Source, string Target, long Passed) Migrate(long size, long dirtyPerSecond, string options)
    {
        string socket = _folder.File("target");
        using var target = ModuleProcess.Start($$"""
            $state = @{ Written = [long]0; Cleanups = 0 }
            $null = Register-SaveVMHandler acme/log -LoadState {
                param($Stream)
                $buffer = [byte[]]::new(65536)
                while ($length = $Stream.ReadUInt32()) { $Stream.ReadExactly($buffer, 0, $length); $state.Written += $length }
            } -LoadCleanup { $state.Cleanups++ }
            try {
                $received = Receive-MigrationStream unix:{{socket}} -Timeout 60
                "figure Bytes $($received.Bytes)"
            } catch { $_.FullyQualifiedErrorId; $_.Exception.Message }
            "figure Written $($state.Written)"
            "cleanup:$($state.Cleanups)"
            """);
        target.WaitForSocket(socket);
        long passed;
        string said;
        using (var relay = new ShapedRelay(Network, () => Connect(socket)))
        {
            using var source = ModuleProcess.Start($$"""
                $state = @{ Sent = [long]0; Stopped = [long]-1; Cleanups = 0; Resumed = 0 }
                $clock = [Diagnostics.Stopwatch]::StartNew()
                # Bytes written by the device so far: those that it had, and those that it wrote until it was stopped.
                $written = { if ($state.Stopped -ge 0) { $state.Stopped } else { [long]({{size}} + {{dirtyPerSecond}} * $clock.Elapsed.TotalSeconds) } }
                $chunk = [byte[]]::new(65536)
                $send = {
                    param($Stream, $Bounded)
                    while (($left = (& $written) - $state.Sent) -gt 0 -and -not ($Bounded -and $Stream.BudgetExceeded)) {
                        $count = [int][Math]::Min($left, $chunk.Length)
                        $Stream.WriteUInt32($count)
                        $Stream.Write($chunk, 0, $count)
                        $state.Sent += $count
                    }
                    $Stream.WriteUInt32(0)
                }
                $null = Register-SaveVMHandler acme/log -SaveSetup { param($Stream) $Stream.WriteUInt32(0) } -SaveIterate {
                    param($Stream)
                    & $send $Stream $true
                    (& $written) -le $state.Sent
                } -PendingEstimate { (& $written) - $state.Sent } -SaveComplete { param($Stream) & $send $Stream $false } -SaveCleanup { $state.Cleanups++ }
                try {
                    $output = Send-MigrationStream {{relay.Uri}} -ReturnPath -PassThru {{options}} -Timeout 60 `
                        -StopDevice { $state.Stopped = & $written } -ResumeDevice { $state.Resumed++ }
                    "figure Bytes $($output[-1].Bytes)"
                    "figure Rounds $($output[-1].Rounds)"
                    "figure Milliseconds $([long]$output[-1].Duration.TotalMilliseconds)"
                    "figure Bandwidth $($output[-2].Bandwidth)"
                } catch { $_.FullyQualifiedErrorId; $_.Exception.Message }
                "figure Written $($state.Sent)"
                "$($state.Stopped -ge 0 ? 'stop' : 'running') resume:$($state.Resumed) cleanup:$($state.Cleanups)"
                """);
            Assert.True(source.WaitForExit() == 0, source.Output);
            Assert.True(target.WaitForExit() == 0, target.Output);
            said = source.Output;
            passed = relay.Passed;
        }

        return (said, target.Output, passed);
    }

    private static Socket Connect(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(path));
        return socket;
    }
}
