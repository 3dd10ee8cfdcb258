using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests.Libvirt;

/// <summary>Hosts that the tests share: each with a libvirtd of its own.</summary>
public sealed class LibvirtHosts : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly Lazy<LibvirtHost> _a;
    private readonly Lazy<LibvirtHost> _b;

    public LibvirtHosts()
    {
        _a = new(() => new LibvirtHost(_folder, "A"));
        _b = new(() => new LibvirtHost(_folder, "B"));
    }

    internal LibvirtHost A => _a.Value;

    internal LibvirtHost B => _b.Value;

    public void Dispose()
    {
        foreach (var host in new[] { _a, _b }.Where(h => h.IsValueCreated))
        {
            host.Value.Dispose();
        }

        _folder.Dispose();
    }
}

/// <summary>A real libvirt: its save images, its snapshots, and its migrations with the module in the middle.</summary>
public sealed class LibvirtTests(LibvirtHosts hosts) : IClassFixture<LibvirtHosts>, IDisposable
{
    private static readonly string[] Formats = ["raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse"];

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_save_image_of_every_format_is_read_whole_and_restored_by_libvirt()
    {
        foreach (string program in Formats[1..6])
        {
            Peers.Require(program);
        }

        Define("images");
        string uuid = hosts.A.Virsh("domuuid", "images");
        hosts.A.Virsh("start", "images");
        foreach (string format in Formats)
        {
            string image = _folder.File(format);
            hosts.A.Virsh("save", "images", image, "--image-format", format);
            var input = new MigrationStreamInput { Path = image };
            var report = MigrationStreams.Test(input);
            Assert.True(report.Passed, $"{format}: {string.Join('\n', report.Checks.AsEnumerable())}");
            var info = MigrationStreams.GetInfo(input);
            Assert.Equal(format == "sparse" ? "libvirt sparse mapped-ram" : $"libvirt {format} stream", info.Format);
            Assert.Equal(("images", uuid, true), (info.Libvirt!.Name, info.Libvirt.Uuid.ToString(), info.Libvirt.WasRunning));
            hosts.A.Virsh("restore", image);
            Assert.Equal("running", hosts.A.StateOf("images"));
        }

        hosts.A.Virsh("destroy", "images");
    }

    [Fact]
    public void The_saved_state_of_a_domain_is_found_by_its_name()
    {
        Define("kept");
        hosts.A.Virsh("start", "kept");
        hosts.A.Virsh("snapshot-create-as", "kept", "inside");
        hosts.A.Virsh("snapshot-create-as", "kept", "outside", "--memspec", $"file={_folder.File("memory")},snapshot=external", "--diskspec", $"vda,file={_folder.File("overlay")}");
        hosts.A.Virsh("managedsave", "kept");
        using var shell = hosts.A.StartPowerShell("""
            foreach ($find in @{}, @{ Connect = 'qemu:///system' }, @{ Snapshot = 'inside' }, @{ Snapshot = 'outside' }) {
                $info = Get-MigrationStream -Domain kept @find
                $report = Test-MigrationStream -Domain kept @find
                "$($find.Snapshot)|$($info.Libvirt.Name)|$($info.Format)|$($report.Passed)|$($info.Devices.Count -gt 10)"
            }

            # It goes on from there, and its monitor stays libvirt's.
            virsh -q start kept
            Find-QemuVM kept | ForEach-Object {
                $socket = $_.Monitors[0].Path
                $problem = try { Connect-QemuMonitor -Path $socket } catch { $_.FullyQualifiedErrorId.Split(',')[0] }
                "$($_.Name)|$($_.Manager)|$($_.State)|$($_.MonitorHolder -match 'libvirtd')|$problem"
            }
            """);
        Assert.True(shell.WaitForExit(180) == 0, shell.Output);
        Assert.Equal(
            ["|kept|libvirt raw stream|True|True", "|kept|libvirt raw stream|True|True", "inside||stream|True|True", "outside|kept|libvirt raw stream|True|True",
                "kept|Libvirt|running|True|QmpManagedMonitor"],
            shell.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_live_migration_passes_through_the_module(bool parallel)
    {
        string domain = parallel ? "wide" : "plain";
        Define(domain);
        hosts.A.Virsh("start", domain);
        using var recorder = ModuleProcess.Start($"""
            $in = Receive-VfioMultifdState -Uri 'unix:{hosts.A.Run}/{domain}.sock' -Archive '{_folder.File("archive")}' -SwitchoverAck -AsJob -Timeout 120
            'listening'
            $null = $in | Wait-Job | Receive-Job
            if (-not (Test-MigrationStream -Path '{_folder.File("archive")}').Passed) {"{"} throw 'The archive is damaged.' {"}"}
            $null = Send-VfioMultifdState -Archive '{_folder.File("archive")}' -Uri 'unix:{hosts.B.Run}/{domain}.sock' -Timeout 120
            'sent'
            """);
        recorder.WaitUntil(() => recorder.Output.Contains("listening", StringComparison.Ordinal), "the recorder listens");
        using var migration = hosts.A.Start(["migrate", "--live", "--unsafe", "--migrateuri", $"unix:///run/{domain}.sock", domain, hosts.B.Uri,
            .. parallel ? ["--parallel", "--parallel-connections", "2"] : Array.Empty<string>()]);
        Assert.True(migration.WaitForExit(180) == 0, migration.Output + recorder.Output);
        Assert.True(recorder.WaitForExit(180) == 0 && recorder.Output.Contains("sent", StringComparison.Ordinal), recorder.Output);
        Assert.Equal(("shut off", "running"), (hosts.A.StateOf(domain), hosts.B.StateOf(domain)));
        hosts.B.Virsh("destroy", domain);
    }

    private void Define(string name)
    {
        string disk = _folder.File("disk.qcow2");
        using var create = new PeerProcess(Peers.Require("qemu-img"), "create", "-q", "-f", "qcow2", disk, "16M");
        Assert.Equal(0, create.WaitForExit());
        string xml = _folder.File("domain.xml");
        File.WriteAllText(xml, $"""
            <domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
            <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
            <cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model></cpu>
            <devices><emulator>{Peers.Require("qemu-system-x86_64")}</emulator><controller type='usb' model='none'/>
            <disk type='file'><driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk>
            <interface type='user'><model type='virtio'/></interface><memballoon model='virtio'/></devices></domain>
            """);
        hosts.A.Virsh("define", xml);
    }
}
