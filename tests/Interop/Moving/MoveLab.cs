using MigrationOps.Engine.Moving;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Moving;

/// <summary>Two real QEMUs with a disk in common, and a guest that writes to it where it runs.</summary>
internal sealed class MoveLab : IAsyncDisposable
{
    private static readonly QmpTimeouts Timeouts = new(TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(10));

    private readonly TestFolder _folder = new();
    private readonly string _program;
    private readonly bool _locks;
    private readonly List<QmpMonitor> _monitors = [];
    private readonly List<QemuProcess> _processes = [];

    private MoveLab(string program, bool locks, int pages)
    {
        _program = program;
        _locks = locks;
        // Under TCG, QEMU 7.2 and 11.1 were seen to lose a page that the guest changed while it was copied, with and without a controller.
        Disk = DiskOracle.Create(_folder.File("disk.raw"), keepsMemory: QemuProcess.Accelerator == "kvm" || program is "qemu-system-x86_64" or "qemu-system-x86_64-trixie");
        WritingFirmware.Write(_folder.File("rom"), pages);
    }

    internal DiskOracle Disk { get; }

    internal QemuProcess SourceProcess { get; private set; } = null!;

    internal QemuProcess TargetProcess { get; private set; } = null!;

    internal QmpMonitor Source { get; private set; } = null!;

    internal QmpMonitor Target { get; private set; } = null!;

    internal string JournalPath => _folder.File("move.jsonl");

    internal string File(string name) => _folder.File(name);

    /// <summary>Starts both, and waits until the guest counts at the source.</summary>
    /// <param name="program">The QEMU.</param>
    /// <param name="locks">False for storage whose locks do not reach from host to host.</param>
    /// <param name="pages">Pages of memory that the guest touches a thousand times a second.</param>
    /// <param name="targetArguments">Further arguments of the target.</param>
    internal static async Task<MoveLab> StartAsync(string program, bool locks = true, int pages = 0, string[]? targetArguments = null)
    {
        var lab = new MoveLab(program, locks, pages);
        try
        {
            lab.SourceProcess = lab.StartQemu("source", []);
            lab.TargetProcess = lab.StartQemu("target", ["-incoming", "defer", .. targetArguments ?? []]);
            await lab.ConnectAsync();
            Waiting.Until(() => lab.Disk.Source.Counter > 2, "the guest counts");
            return lab;
        }
        catch
        {
            await lab.DisposeAsync();
            throw;
        }
    }

    /// <summary>Connects to both monitors, through other sockets if there are any.</summary>
    internal async Task ConnectAsync(string? source = null, string? target = null)
    {
        await DisconnectAsync();
        Source = await ConnectAsync(source ?? _folder.File("source.qmp"));
        Target = await ConnectAsync(target ?? _folder.File("target.qmp"));
    }

    /// <summary>Connects to the source alone: the target has ended.</summary>
    internal async Task ConnectSourceAsync() => Source = await ConnectAsync(_folder.File("source.qmp"));

    /// <summary>Leaves both monitors, as a process that ends does.</summary>
    internal async Task DisconnectAsync()
    {
        foreach (var monitor in _monitors)
        {
            await monitor.DisposeAsync();
        }

        _monitors.Clear();
    }

    internal MoveOptions Options() => new()
    {
        Source = Source,
        Target = Target,
        JournalPath = JournalPath,
        StepTimeout = TimeSpan.FromSeconds(10),
    };

    /// <summary>What can be found out without the connections of the test.</summary>
    internal MoveInspectionOptions Inspection() => new() { JournalPath = JournalPath, Patience = TimeSpan.FromSeconds(10) };

    internal async Task<QemuMigrationVerdict> ResolveAsync(MoveInspectionOptions? options = null)
    {
        await using var seen = await MoveInspection.LookAsync(options ?? Inspection(), CancellationToken.None);
        return seen.ToVerdict([]);
    }

    internal async Task<QmpMonitor> ConnectAsync(string path)
    {
        var monitor = await QmpMonitor.ConnectAsync(new QmpMonitorOptions { Endpoint = new Endpoint.Unix(path), Timeouts = Timeouts });
        _monitors.Add(monitor);
        return monitor;
    }

    internal QemuProcess StartQemu(string name, string[] arguments)
    {
        // The boot menu's flag tells the guest where it is.
        string[] common =
        [
            "-name", "moved", "-uuid", "6f1dd2f0-5a06-4d6e-8f41-0d8fdbd2f0a1", "-M", "pc", "-accel", QemuProcess.Accelerator, "-cpu", "qemu64,-apic", "-m", "16", "-bios", _folder.File("rom"),
            "-boot", name == "source" ? "menu=off" : "menu=on",
            "-blockdev", $"driver=file,node-name=f,filename={Disk.Path}{(_locks ? "" : ",locking=off")}",
            "-blockdev", "driver=raw,node-name=d,file=f", "-device", "ide-hd,drive=d,bus=ide.0",
        ];
        var process = QemuProcess.Start(_folder, name, [.. common, .. arguments], monitorLater: true, _program);
        _processes.Add(process);
        process.WaitForSocket(_folder.File(name + ".qmp"));
        return process;
    }

    public async ValueTask DisposeAsync()
    {
        await DisconnectAsync();
        foreach (var process in _processes)
        {
            process.Dispose();
        }

        _folder.Dispose();
    }
}
