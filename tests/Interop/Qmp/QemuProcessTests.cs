using MigrationOps.Engine.Qmp;

namespace MigrationOps.Interop.Tests.Qmp;

/// <summary>QEMUs that the engine starts itself.</summary>
public class QemuProcessTests
{
    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task One_that_we_start_has_its_monitor_and_ends_with_its_object(string program)
    {
        string folder;
        int id;
        await using (var qemu = await Engine.Qmp.QemuProcess.StartAsync(Options(program, "-M", "none", "-S")))
        {
            id = qemu.Id;
            folder = Path.GetDirectoryName(qemu.MonitorPath)!;
            Assert.Equal(id, qemu.Monitor.Peer!.Pid);
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(folder));
            Assert.NotNull((await qemu.Monitor.ExecuteAsync("query-version")).Member("qemu"));
        }

        Assert.False(Directory.Exists($"/proc/{id}"));
        Assert.False(Directory.Exists(folder));
    }

    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task One_that_refuses_its_command_line_is_told_in_its_own_words(string program)
    {
        var failure = await Assert.ThrowsAsync<QmpException>(() => Engine.Qmp.QemuProcess.StartAsync(Options(program, "-M", "no-such-machine")));
        Assert.Equal(QmpError.StartFailed, failure.Reason);
        Assert.Contains("unsupported machine type", failure.Message, StringComparison.OrdinalIgnoreCase);
    }

    private static QemuProcessOptions Options(string program, params string[] arguments)
        => new() { Program = Peers.Require(program), Arguments = [.. arguments, "-nodefaults", "-display", "none"] };
}
