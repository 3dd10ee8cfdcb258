using System.Diagnostics;
using System.Text;

namespace MigrationOps.Interop.Tests;

/// <summary>A real peer as a child process: its output is kept for the assertion that fails, and it never outlives the test.</summary>
internal class PeerProcess : IDisposable
{
    // In seconds. A busy machine is slow, and what hangs is found all the same.
    internal const double Patience = 240;

    private readonly StringBuilder _output = new();
    private readonly Process _process;

    internal PeerProcess(string program, params IEnumerable<string> arguments)
        : this(new ProcessStartInfo(program, arguments))
    {
    }

    internal PeerProcess(ProcessStartInfo start)
    {
        start.RedirectStandardOutput = true;
        start.RedirectStandardError = true;
        start.RedirectStandardInput = true;
        _process = Process.Start(start)!;
        _process.StandardInput.Close();
        _process.OutputDataReceived += Keep;
        _process.ErrorDataReceived += Keep;
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    internal int Id => _process.Id;

    internal bool HasExited => _process.HasExited;

    internal int ExitCode => _process.ExitCode;

    /// <summary>What it printed so far.</summary>
    internal string Output
    {
        get
        {
            lock (_output)
            {
                return _output.ToString();
            }
        }
    }

    /// <summary>Polls for a condition that the peer brings about, and fails with its output if it never comes.</summary>
    internal void WaitUntil(Func<bool> condition, string what, double seconds = Patience)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            if (_process.HasExited)
            {
                // What it printed last is still on its way to us.
                _process.WaitForExit();
                Assert.True(condition(), $"The peer ended before {what}:\n{Output}");
                return;
            }

            Assert.True(clock.Elapsed.TotalSeconds < seconds, $"Nothing within {seconds} s: {what}\n{Output}");
            Thread.Yield();
            _process.WaitForExit(5);
        }
    }

    /// <summary>Waits until the socket file is there and the peer listens on it.</summary>
    internal void WaitForSocket(string path) => WaitUntil(
        () => File.Exists(path) && File.ReadLines("/proc/net/unix").Any(
            line => line.EndsWith(' ' + path) && line.Contains(" 00010000 ")), $"listening on {path}");

    internal int WaitForExit(double seconds = Patience)
    {
        Assert.True(_process.WaitForExit(TimeSpan.FromSeconds(seconds)), $"The peer did not end:\n{Output}");
        _process.WaitForExit();
        return _process.ExitCode;
    }

    /// <summary>Sends a signal by its name; a process that has ended gets none.</summary>
    internal void Signal(string name)
    {
        if (!_process.HasExited)
        {
            using var kill = Process.Start("kill", [$"-{name}", $"{_process.Id}"]);
            kill.WaitForExit();
        }
    }

    internal void Kill()
    {
        // SIGKILL: a QEMU that waits for ever in a damaged migration ignores anything less.
        if (!_process.HasExited)
        {
            _process.Kill();
        }

        _process.WaitForExit();
    }

    public virtual void Dispose()
    {
        Kill();
        _process.Dispose();
        GC.SuppressFinalize(this);
    }

    private void Keep(object sender, DataReceivedEventArgs e)
    {
        lock (_output)
        {
            _output.AppendLine(e.Data);
        }
    }
}
