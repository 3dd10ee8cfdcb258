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

    private JsonNode Run(params string[] arguments)
    {
        string output = _folder.File("result.json");
        string call = string.Join(' ', arguments.Select(a => a.StartsWith('-') ? a : $"'{a}'"));
        using var pwsh = ModuleProcess.Start(
            $"& '{Repository.Root}/examples/Test-VirtiofsMigration.ps1' -Virtiofsd '{_virtiofsd}' {call} | ConvertTo-Json > '{output}'");
        Assert.True(pwsh.WaitForExit(90) == 0, pwsh.Output);
        return JsonNode.Parse(File.ReadAllText(output))!;
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

        /// <summary>Leaves the monitor to somebody else.</summary>
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
