using System.Diagnostics;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Tools;

namespace MigrationOps.Interop.Tests.Libvirt;

/// <summary>
/// A host of its own with a libvirtd, and the domains that run there. Its mounts and processes are its own; every process of it ends with it.
/// </summary>
internal sealed class LibvirtHost : IDisposable
{
    private readonly PeerProcess _daemon;
    private readonly string _state;
    private readonly string _virsh = Peers.Require("virsh");
    private readonly string _first;

    /// <param name="folder">Where its files lie, visible at the same path from both sides; short, for the names of sockets.</param>
    /// <param name="name">Its host name.</param>
    internal LibvirtHost(TestFolder folder, string name)
    {
        string libvirt = Path.Combine(Peers.Root, "libvirt");
        Peers.Require("libvirtd");
        _state = Directory.CreateDirectory(folder.File(name)).FullName;
        _daemon = new PeerProcess("bash", Path.Combine(Repository.Root, "tests/Interop/Libvirt/daemon.sh"), libvirt, _state, name);
        string socket = Path.Combine(_state, "run/libvirt/libvirt-sock");
        Uri = $"qemu:///system?socket={socket}";

        _daemon.WaitUntil(() => Children().Length > 0, "the host has begun");
        _first = Children();

        // The first one looks at every QEMU of the machine.
        _daemon.WaitUntil(() => File.Exists(socket), "libvirtd listens", 180);
        Virsh("version");
    }

    /// <summary>How virsh reaches it from this side.</summary>
    internal string Uri { get; }

    /// <summary>What the host has as /run.</summary>
    internal string Run => Path.Combine(_state, "run");

    /// <summary>Runs virsh against it, and gives what it prints.</summary>
    internal string Virsh(params string[] arguments)
    {
        using var virsh = Start(arguments);
        Assert.True(virsh.WaitForExit() == 0, $"virsh {string.Join(' ', arguments)}: {virsh.Output}\n{_daemon.Output}");
        return virsh.Output.Trim();
    }

    /// <summary>Starts virsh against it.</summary>
    internal PeerProcess Start(params string[] arguments) => new(_virsh, ["-q", "-c", Uri, .. arguments]);

    /// <summary>The domain's state in virsh's words; "absent" if the host does not know it.</summary>
    internal string StateOf(string domain)
    {
        using var virsh = Start("domstate", domain);
        return virsh.WaitForExit() == 0 ? virsh.Output.Trim() : "absent";
    }

    /// <summary>Starts a PowerShell inside the host, where libvirt's folders are in their places.</summary>
    internal PeerProcess StartPowerShell(string script)
    {
        var outside = ModuleProcess.StartInfo(script);
        var start = new ProcessStartInfo("nsenter", ["-t", _first, "-m", "-u", "-p", "--", outside.FileName, .. outside.ArgumentList]);
        foreach (var (name, value) in outside.Environment)
        {
            start.Environment[name] = value;
        }

        return new PeerProcess(start);
    }

    public void Dispose()
    {
        _daemon.Dispose();

        // It is gone, or a zombie, when every process of the host is.
        Waiting.Until(() => !File.Exists($"/proc/{_first}/maps") || File.ReadAllText($"/proc/{_first}/stat").Contains(") Z ", StringComparison.Ordinal), "the host's processes end");
    }

    private string Children() => File.ReadAllText($"/proc/{_daemon.Id}/task/{_daemon.Id}/children").Trim();
}
