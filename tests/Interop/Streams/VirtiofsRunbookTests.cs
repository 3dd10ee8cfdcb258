using System.Text.Json.Nodes;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests.Streams;

/// <summary>examples/Test-VirtiofsMigration.ps1 with a real VM and a real virtiofsd.</summary>
public sealed class VirtiofsRunbookTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly string _virtiofsd = Peers.Require("virtiofsd");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_runbook_tells_that_a_vm_s_virtiofs_state_would_load_and_lets_the_vm_run_on()
    {
        using var vm = new VirtiofsVm(_folder, _virtiofsd);
        string monitor = vm.ReleaseMonitor();
        var result = Run("-MonitorPath", monitor, "-SharedDirectory", vm.SharedDirectory);
        Assert.True((bool)result["Passed"]!, result.ToJsonString());
        Assert.EndsWith("vhost-user-fs", (string)result["Device"]!, StringComparison.Ordinal);
        Assert.True((long)result["Bytes"]! > 0);
        vm.Qemu.ConnectMonitor();
        Assert.Equal("running", vm.Qemu.Status);
        Assert.Equal([monitor], Directory.GetFiles(_folder.Path, "*.qmp"));
    }

    [Fact]
    public void The_runbook_says_why_a_state_would_not_load()
    {
        using var vm = new VirtiofsVm(_folder, _virtiofsd);
        string stream = _folder.File("vm.stream");
        vm.Qemu.Migrate($"file:{stream}");
        vm.Qemu.WaitForMigration("completed");

        // The state's first byte is the version of virtiofsd's format: no virtiofsd knows this one.
        byte[] bytes = File.ReadAllBytes(stream);
        int chunk = bytes.AsSpan().IndexOf("vhost-user-fs-backend"u8) + "vhost-user-fs-backend".Length + 4;
        bytes[chunk + 4] ^= 0x7f;
        File.WriteAllBytes(stream, bytes);
        var result = Run("-StreamPath", stream, "-SharedDirectory", vm.SharedDirectory);
        Assert.False((bool)result["Passed"]!, result.ToJsonString());
        Assert.NotEmpty((string)result["Detail"]!);
    }

    // The stream's guest has looked at files, and holds some of them open.
    private static string RecordedStream => Path.Combine(Repository.Root, "tests/MigrationOps.Engine.Tests/Vectors/Streams/small.stream");

    [Theory]
    [InlineData("")]
    [InlineData("--migration-on-error,guest-error")]
    [InlineData("--migration-on-error=guest-error,--log-level,error")]
    public void Files_that_are_missing_are_named_whatever_the_destination_s_virtiofsd_does_about_them(string more)
    {
        string empty = Directory.CreateDirectory(_folder.File("empty")).FullName;
        string[] arguments = more.Length == 0 ? [] : ["-VirtiofsdArgument", "--sandbox,none," + more];
        var result = Run(["-StreamPath", RecordedStream, "-SharedDirectory", empty, .. arguments]);
        Assert.False((bool)result["Passed"]!, result.ToJsonString());
        Assert.DoesNotContain("found every file", (string)result["Detail"]!);
        Assert.Contains("/a.txt: No such file or directory", (string)result["Detail"]!);
        string[] missing = [.. result["Missing"]!.AsArray().Select(m => (string)m!)];
        Assert.All(new[] { "a.txt", "log.txt", "dir", "newdir" }, name => Assert.Contains(missing, m => m.Contains("/" + name, StringComparison.Ordinal)));
    }

    [Fact]
    public void A_directory_with_every_file_passes()
    {
        string share = _folder.File("share");
        foreach (string file in new[] { "a.txt", "log.txt", "dir/sub/b.txt", "dir/c.txt", "newdir/x" })
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(share, file))!);
            File.WriteAllText(Path.Combine(share, file), "x");
        }

        var result = Run("-StreamPath", RecordedStream, "-SharedDirectory", share);
        Assert.True((bool)result["Passed"]!, result.ToJsonString());
        Assert.Contains("found every file", (string)result["Detail"]!);
    }

    private JsonNode Run(params string[] arguments)
    {
        string output = _folder.File("result.json");
        string call = string.Join(' ', arguments.Select(a => a.StartsWith('-') && !a.StartsWith("--", StringComparison.Ordinal) ? a : $"'{a.Replace(",", "','", StringComparison.Ordinal)}'"));
        using var pwsh = ModuleProcess.Start(
            $"& '{Repository.Root}/examples/Test-VirtiofsMigration.ps1' -Virtiofsd '{_virtiofsd}' {call} | ConvertTo-Json > '{output}'");
        int code = pwsh.WaitForExit();
        Assert.True(File.Exists(output) && new FileInfo(output).Length > 0, pwsh.Output);
        var result = JsonNode.Parse(File.ReadAllText(output))!;
        Assert.True(code == ((bool)result["Passed"]! ? 0 : 1), $"{code}: {pwsh.Output}");
        return result;
    }

    /// <summary>A VM with a virtiofs share.</summary>
    private sealed class VirtiofsVm : IDisposable
    {
        private readonly TestFolder _folder;
        private readonly PeerProcess _backend;

        internal VirtiofsVm(TestFolder folder, string virtiofsd)
        {
            _folder = folder;
            SharedDirectory = Directory.CreateDirectory(folder.File("share")).FullName;
            string socket = folder.File("vfs.sock");
            _backend = new PeerProcess(virtiofsd, "--socket-path", socket, "--shared-dir", SharedDirectory, "--sandbox", "none");
            _backend.WaitForSocket(socket);
            Qemu = QemuProcess.Start(folder, "vm",
            [
                "-M", "q35,memory-backend=m0", "-accel", "tcg", "-m", "32", "-object", "memory-backend-memfd,id=m0,size=32M,share=on",
                "-chardev", $"socket,id=c,path={socket}", "-device", "vhost-user-fs-pci,chardev=c,tag=t",
            ]);
        }

        internal string SharedDirectory { get; }

        internal QemuProcess Qemu { get; }

        /// <summary>Leaves the monitor to another client.</summary>
        internal string ReleaseMonitor()
        {
            Qemu.DisconnectMonitor();
            return _folder.File("vm.qmp");
        }

        public void Dispose()
        {
            Qemu.Dispose();
            _backend.Dispose();
        }
    }
}
