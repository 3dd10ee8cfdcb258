using System.Diagnostics;
using System.Globalization;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Qmp;

/// <summary>A program that we start has nothing of ours, and ends when we do.</summary>
[Collection(Alone.Name)]
public class ChildProcessTests
{
    [Fact]
    public async Task Its_end_and_its_output_are_told()
    {
        using var child = ChildProcess.Start("sh", ["-c", "echo out; echo err >&2; exit 7"]);
        Assert.Equal(7, await child.Exited.WaitAsync(Waiting.Patience));
        Assert.Equal("out\nerr\n", child.Output);
    }

    [Fact]
    public async Task Of_much_output_the_last_is_kept()
    {
        using var child = ChildProcess.Start("sh", ["-c", "i=0; while [ $i -lt 20000 ]; do echo \"line $i\"; i=$((i+1)); done"]);
        Assert.Equal(0, await child.Exited.WaitAsync(Waiting.Patience));
        Assert.EndsWith("line 19998\nline 19999\n", child.Output);
        Assert.Equal(64 * 1024, child.Output.Length);
    }

    [Fact]
    public async Task It_has_its_own_session_only_its_three_descriptors_and_default_signals()
    {
        string script = "ls /proc/self/fd | tr '\\n' ' '; cut -d' ' -f6 /proc/$$/stat; echo $$; grep -E 'SigIgn|SigBlk' /proc/self/status";
        using var inherited = new Leak();
        using var child = ChildProcess.Start("/bin/sh", ["-c", script]);
        Assert.Equal(0, await child.Exited.WaitAsync(Waiting.Patience));
        string[] lines = child.Output.Split('\n');
        Assert.Equal("0 1 2 3 ", lines[0][..8]);      // 3 is ls's own
        Assert.Equal(child.Id.ToString(CultureInfo.InvariantCulture), lines[0][8..]);
        Assert.Equal(lines[1], lines[0][8..]);
        // glibc's posix_spawn leaves its own two signals, 32 and 33, ignored.
        Assert.All(lines[2..4], line => Assert.Equal(0UL, Convert.ToUInt64(line.Split('\t')[1], 16) & ~0x180000000UL));
    }

    [Fact]
    public async Task A_killed_one_tells_the_signal_and_what_holds_its_output_open_delays_nothing()
    {
        using var child = ChildProcess.Start("sh", ["-c", "sleep 1000 & echo $!; exec sleep 1000"]);
        Waiting.Until(() => child.Output.Contains('\n', StringComparison.Ordinal), "the number of the grandchild");
        int grandchild = int.Parse(child.Output, CultureInfo.InvariantCulture);
        child.Kill();
        Assert.Equal(128 + 9, await child.Exited.WaitAsync(Waiting.Patience));
        using var left = Process.GetProcessById(grandchild);
        left.Kill();
    }

    [Fact]
    public void A_program_that_is_not_there_has_a_name()
    {
        int before = ProcessUse.Descriptors;
        Assert.Equal(QmpError.StartFailed, Assert.Throws<QmpException>(() => ChildProcess.Start("no-such-program", [])).Reason);
        Assert.Equal(before, ProcessUse.Descriptors);
    }

    [Fact]
    public async Task Nothing_is_left_open_and_the_guard_ends()
    {
        int before = ProcessUse.Descriptors;
        int guard;
        using (var child = ChildProcess.Start("sleep", ["1000"]))
        {
            Waiting.Until(() => ChildrenOf(child.Id).Length == 1, "the guard");
            guard = ChildrenOf(child.Id)[0];
        }

        Waiting.Until(() => !Directory.Exists($"/proc/{guard}"), "the end of the guard");
        ProcessUse.AssertReturnsTo(before, () => ProcessUse.Descriptors, "descriptors");
        await Task.CompletedTask;
    }

    [Fact]
    public async Task It_ends_when_the_process_that_started_it_is_killed()
    {
        // The starter is a process of its own: a shell that stands in for us, with the same guard around its child.
        string guard = (string)typeof(ChildProcess).GetField("Guard", System.Reflection.BindingFlags.NonPublic | System.Reflection.BindingFlags.Static)!.GetRawConstantValue()!;
        string starter = $"mkfifo \"$0\"; exec 4<>\"$0\"; exec 5<\"$0\"; exec 6>\"$0\"; exec 4>&-; sh -c '{guard}' sh sleep 1000 3<&5 5<&- 6>&- & exec 5<&-; echo $!; wait";
        using var folder = new TestFolder();
        using var child = ChildProcess.Start("sh", ["-c", starter, folder["fifo"]]);
        Waiting.Until(() => child.Output.Contains('\n', StringComparison.Ordinal), "the number of the grandchild");
        int grandchild = int.Parse(child.Output, CultureInfo.InvariantCulture);
        Waiting.Until(() => File.ReadAllText($"/proc/{grandchild}/comm") == "sleep\n", "the program");
        child.Kill();
        await child.Exited.WaitAsync(Waiting.Patience);
        Waiting.Until(() => !Directory.Exists($"/proc/{grandchild}"), "the end of the grandchild");
    }

    private static int[] ChildrenOf(int pid) => [.. File.ReadAllText($"/proc/{pid}/task/{pid}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries)
        .Select(text => int.Parse(text, CultureInfo.InvariantCulture))];

    // A descriptor that does not close on exec, as a shell that started us may have left one.
    private sealed class Leak : IDisposable
    {
        private readonly FileStream _file = File.OpenRead("/dev/null");

        internal Leak() => MigrationOps.Engine.Native.Fcntl.SetCloseOnExec(_file.SafeFileHandle, closes: false, "leak");

        public void Dispose() => _file.Dispose();
    }
}
