using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Xml;
using System.Xml.Linq;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// Finds the QEMU processes of this host: by /proc, by the sockets that they listen on, and by a short question to the monitors that
/// no client holds. A monitor that a manager holds is not connected to.
/// </summary>
internal static class VMFinder
{
    private static readonly QmpTimeouts Patience = new(TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(2));

    /// <summary>Every QEMU that can be seen, by process id.</summary>
    /// <param name="ask">False to leave the monitors alone: then state and version are unknown.</param>
    /// <param name="isWanted">Which ones to ask; the name as far as the command line has it.</param>
    /// <param name="logger">Where the engine's log goes.</param>
    /// <param name="cancellationToken">Ends it.</param>
    internal static async Task<IReadOnlyList<QemuVM>> FindAsync(bool ask, Func<QemuVM, bool> isWanted, ILogger? logger = null, CancellationToken cancellationToken = default)
    {
        var sockets = UnixSocketDiag.TryList();
        var found = ProcFiles.Processes().Where(IsQemu).Order().Select(pid => Describe(pid, sockets)).OfType<QemuVM>().Where(isWanted).ToArray();
        return ask ? await Task.WhenAll(found.Select(vm => AskAsync(vm, logger, cancellationToken))).ConfigureAwait(false) : found;
    }

    /// <summary>The process of the QEMU with a UUID; 0 if there is none, or more than one.</summary>
    internal static int FindProcess(string? uuid)
    {
        int[] found = uuid is null ? [] : [.. ProcFiles.Processes().Where(pid => IsQemu(pid) && string.Equals(QemuCommandLine.Parse(ProcFiles.CommandLine(pid)).Uuid, uuid, StringComparison.OrdinalIgnoreCase)).Take(2)];
        return found is [var only] ? only : 0;
    }

    // A QEMU with libraries of its own is started through their loader.
    internal static bool IsQemu(int pid)
    {
        string program = Path.GetFileName(ProcFiles.Executable(pid) ?? "");
        return IsQemuName(program)
            || (program.StartsWith("ld-", StringComparison.Ordinal) && ProcFiles.CommandLine(pid).Take(8).Any(argument => IsQemuName(Path.GetFileName(argument))));
    }

    private static bool IsQemuName(string name) => name.StartsWith("qemu-system-", StringComparison.Ordinal) || name is "qemu-kvm" or "kvm";

    private static QemuVM? Describe(int pid, List<UnixSocket>? sockets)
    {
        string[] arguments = ProcFiles.CommandLine(pid);
        if (arguments.Length == 0)
        {
            return null;
        }

        var line = QemuCommandLine.Parse(arguments);
        var descriptors = ProcFiles.Descriptors(pid).ToArray();
        var monitors = line.Monitors.Select(monitor => Describe(monitor, pid, descriptors, sockets)).ToArray();
        var manager = monitors.Select(monitor => monitor.Manager).FirstOrDefault(manager => manager != VMManager.None);
        return new QemuVM
        {
            Name = line.Name,
            Uuid = line.Uuid,
            ProcessId = pid,
            Manager = manager,
            State = manager == VMManager.Libvirt ? LibvirtState(line.Name, pid) : null,
            Machine = line.Machine,
            MemoryBytes = line.MemoryBytes,
            Version = null,
            Program = arguments.FirstOrDefault(argument => IsQemuName(Path.GetFileName(argument))) ?? ProcFiles.Executable(pid),
            UserId = UserOf(pid),
            Incoming = line.Incoming,
            Monitors = monitors,
            Problem = ProblemOf(monitors),
        };
    }

    private static QemuMonitorInfo Describe(MonitorArgument argument, int pid, (int Number, string Link)[] descriptors, List<UnixSocket>? sockets)
    {
        string? path = argument.Path ?? (argument.Descriptor is { } number ? PathOfDescriptor(number, descriptors, sockets) : null);
        if (path is null)
        {
            bool isTcp = argument.Address is not null && argument.IsServer;
            return new QemuMonitorInfo
            {
                Uri = argument.Address is null ? argument.Kind : "tcp:" + argument.Address,
                Path = null,
                Manager = VMManager.None,
                Holder = null,
                HolderId = null,
                IsUsable = isTcp,
                NeedsLease = false,
            };
        }

        string seen = ResolvePathOfProcess(path.StartsWith('/') || path.StartsWith('@') ? path : Path.Combine(ProcFiles.WorkingDirectory(pid) ?? "/", path), pid);
        var holder = sockets is null ? null : MonitorHolder.Find(seen);
        var manager = MonitorManager.OfSocket(path);
        if (manager == VMManager.None && holder is { Program: "virtqemud" or "libvirtd" })
        {
            manager = VMManager.Libvirt;
        }

        return new QemuMonitorInfo
        {
            Uri = "unix:" + seen,
            Path = seen,
            Manager = manager,
            Holder = holder?.ToString(),
            HolderId = holder is { Pid: > 0 } ? holder.Pid : null,
            IsUsable = (argument.IsServer || argument.Descriptor is not null) && holder is null && manager != VMManager.Libvirt,
            NeedsLease = manager == VMManager.Proxmox,
        };
    }

    // In a container the path means another file than here; through the process's own root it can be reached.
    private static string ResolvePathOfProcess(string path, int pid)
        => path.StartsWith('@') || PathStatus.TryGetInode(path) is { } here && here == PathStatus.TryGetInode($"/proc/{pid}/root{path}") ? path
            : PathStatus.TryGetInode($"/proc/{pid}/root{path}") is not null ? string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/root{path}") : path;

    private static string? PathOfDescriptor(int number, (int Number, string Link)[] descriptors, List<UnixSocket>? sockets)
    {
        string? link = descriptors.FirstOrDefault(descriptor => descriptor.Number == number).Link;
        return link is not null && link.StartsWith("socket:[", StringComparison.Ordinal)
            && uint.TryParse(link["socket:[".Length..].TrimEnd(']'), NumberStyles.None, CultureInfo.InvariantCulture, out uint inode)
            ? sockets?.FirstOrDefault(socket => socket.Inode == inode).Name : null;
    }

    private static string? ProblemOf(QemuMonitorInfo[] monitors)
        => monitors.Length == 0 ? "It has no QMP monitor."
            : monitors.Any(monitor => monitor.IsUsable) ? null
            : monitors.FirstOrDefault(monitor => monitor.Manager == VMManager.Libvirt) is not null
                ? "libvirt holds its monitor. It can be asked through libvirt's own virt-qemu-qmp-proxy, by the name of the domain."
            : monitors.FirstOrDefault(monitor => monitor.Holder is not null) is { } held ? $"{held.Holder} is connected to its monitor."
            : "Its monitor is not a socket that listens.";

    private static async Task<QemuVM> AskAsync(QemuVM vm, ILogger? logger, CancellationToken cancellationToken)
    {
        if (vm.Monitors.FirstOrDefault(monitor => monitor.IsUsable) is not { } usable || Endpoint(usable) is not { } endpoint)
        {
            return vm;
        }

        // The manager's rule is two commands; the rest stands in the command line that it wrote.
        QmpCommand[] commands = [new("query-status"), new("query-name")];
        if (!usable.NeedsLease)
        {
            commands = [.. commands, new("query-uuid"), new("query-memory-size-summary"),
                new("qom-get", new JsonObject { ["path"] = "/machine", ["property"] = "type" })];
        }

        try
        {
            await using var monitor = await QmpMonitor.ConnectAsync(new QmpMonitorOptions
            {
                Endpoint = endpoint,
                Timeouts = Patience,
                ReadOnly = true,
                Lease = usable.NeedsLease,
            }, logger, cancellationToken).ConfigureAwait(false);
            var answers = new List<JsonElement?>();
            foreach (var command in commands.Chunk(QmpMonitor.MostPerLease))
            {
                answers.AddRange(await AskAsync(monitor, command, cancellationToken).ConfigureAwait(false));
            }

            return vm with
            {
                State = answers[0]?.Text("status"),
                Version = monitor.Version.Number,
                Name = answers[1]?.Text("name") ?? vm.Name,
                Uuid = answers.ElementAtOrDefault(2)?.Text("UUID") is { } uuid && uuid.Any(letter => letter is not ('0' or '-')) ? uuid : vm.Uuid,
                MemoryBytes = answers.ElementAtOrDefault(3)?.Number("base-memory") + (answers.ElementAtOrDefault(3)?.Number("plugged-memory") ?? 0) ?? vm.MemoryBytes,
                Machine = answers.ElementAtOrDefault(4) is { ValueKind: JsonValueKind.String } type ? type.GetString()!.Replace("-machine", "", StringComparison.Ordinal) : vm.Machine,
            };
        }
        catch (MigrationOpsException e)
        {
            return vm with { Problem = e.Message };
        }
    }

    private static async Task<IEnumerable<JsonElement?>> AskAsync(QmpMonitor monitor, QmpCommand[] commands, CancellationToken cancellationToken)
    {
        if (monitor.Options.Lease)
        {
            return (await monitor.ExecuteAllAsync(commands, null, cancellationToken).ConfigureAwait(false)).Select(answer => (JsonElement?)answer);
        }

        var answers = new List<JsonElement?>();
        foreach (var command in commands)
        {
            try
            {
                answers.Add(await monitor.ExecuteAsync(command, null, cancellationToken).ConfigureAwait(false));
            }
            catch (QmpException e) when (e.Reason is QmpError.CommandFailed or QmpError.CommandNotFound)
            {
                // In its early states a QEMU refuses some questions; the others are answered.
                answers.Add(null);
            }
        }

        return answers;
    }

    private static Endpoint? Endpoint(QemuMonitorInfo monitor)
    {
        try
        {
            return Wire.Endpoint.Parse(monitor.Uri);
        }
        catch (WireException)
        {
            // A TCP address in a form that only QEMU reads.
            return null;
        }
    }

    private static long? UserOf(int pid)
        => ProcFiles.Read(pid, "status")?.Split('\n').FirstOrDefault(text => text.StartsWith("Uid:", StringComparison.Ordinal))?.Split('\t') is [_, var real, ..]
            && long.TryParse(real, NumberStyles.None, CultureInfo.InvariantCulture, out long user) ? user : null;

    // libvirt's own note of a running domain. It is what libvirt says, without a question to QEMU.
    private static string? LibvirtState(string? name, int pid)
    {
        string file = $"/run/libvirt/qemu/{name}.xml";
        if (name is null || !File.Exists(file))
        {
            return null;
        }

        try
        {
            var root = XDocument.Load(file).Root;
            return root?.Attribute("pid")?.Value == pid.ToString(CultureInfo.InvariantCulture) ? root.Attribute("state")?.Value : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or XmlException)
        {
            return null;
        }
    }
}
