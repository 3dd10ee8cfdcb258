namespace MigrationOps.Engine.Qmp;

/// <summary>What starts and manages a VM.</summary>
internal static class MonitorManager
{
    private const string LibvirtSystem = "/libvirt/qemu/";
    private const string ProxmoxFolder = "/qemu-server/";

    /// <summary>The manager that is known to own the socket of a path.</summary>
    internal static VMManager OfSocket(string path)
        => path.Contains(ProxmoxFolder, StringComparison.Ordinal) && path.EndsWith(".qmp", StringComparison.Ordinal) ? VMManager.Proxmox
            : path.Contains(LibvirtSystem, StringComparison.Ordinal) && Path.GetFileName(path) == "monitor.sock" ? VMManager.Libvirt
            : VMManager.None;

    /// <summary>The manager that started a QEMU, by the arguments that it gave it.</summary>
    internal static VMManager OfArguments(IReadOnlyList<string> arguments)
        => arguments.Any(argument => argument.Contains("id=charmonitor,", StringComparison.Ordinal) || argument.Contains("\"id\":\"charmonitor\"", StringComparison.Ordinal)) ? VMManager.Libvirt
            : arguments.Any(argument => argument.Contains(ProxmoxFolder, StringComparison.Ordinal) && argument.Contains(".qmp", StringComparison.Ordinal)) ? VMManager.Proxmox
            : VMManager.None;

    /// <summary>Refuses a socket that its manager holds or needs.</summary>
    /// <exception cref="QmpException"><see cref="QmpError.ManagedMonitor"/>.</exception>
    internal static void Check(string path, bool lease)
    {
        switch (OfSocket(path))
        {
            case VMManager.Libvirt:
                throw new QmpException(QmpError.ManagedMonitor, $"'{path}' is libvirt's own connection to the VM; libvirt loses control of it if another client takes the socket.")
                {
                    Target = path,
                };
            case VMManager.Proxmox when !lease:
                throw new QmpException(QmpError.ManagedMonitor, $"Proxmox connects to '{path}' for every command, and fails while another client stays connected.",
                    action: "Connect with a lease.")
                { Target = path };
        }
    }
}
