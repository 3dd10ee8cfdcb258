using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests.SaveVm;

/// <summary>Real QEMUs of one machine whose guest counts: sources that run, and targets that wait for a stream.</summary>
internal sealed class MigrationGuest : IDisposable
{
    internal const string Program = "qemu-system-x86_64";

    private readonly List<QemuProcess> _started = [];
    private readonly string _program;
    private readonly string[] _machine;
    private readonly string _firmware;

    internal MigrationGuest(string program = Program, params string[] machine)
    {
        _program = program;
        _machine = machine is [] ? ["-M", "pc"] : machine;
        _firmware = Folder.File("count.rom");
        CountingFirmware.Write(_firmware);
    }

    internal TestFolder Folder { get; } = new();

    /// <summary>Starts the machine and waits until its guest counts.</summary>
    internal QemuProcess StartSource()
    {
        var source = Start();
        source.WaitUntil(() => CountingFirmware.ReadCounter(source) > 1000, "the guest counts");
        return source;
    }

    /// <summary>Starts the same machine, which waits for a stream.</summary>
    internal QemuProcess StartTarget(string uri) => Start("-incoming", uri);

    /// <summary>Waits until the guest runs in the target, from where it was in the source.</summary>
    internal static void AssertRunsOn(QemuProcess target, ulong from)
    {
        target.WaitUntil(() => target.Status == "running", "the guest to run in the target");
        ulong arrived = CountingFirmware.ReadCounter(target);
        Assert.True(arrived >= from, $"The guest counted to {from:N0}, and is at {arrived:N0}.");
        target.WaitUntil(() => CountingFirmware.ReadCounter(target) > arrived, "the guest to count on");
    }

    public void Dispose()
    {
        _started.ForEach(qemu => qemu.Dispose());
        Folder.Dispose();
    }

    private QemuProcess Start(params string[] more)
    {
        var qemu = QemuProcess.Start(Folder, $"vm{_started.Count}",
            [.. _machine, "-accel", QemuProcess.Accelerator, "-m", "16", "-bios", _firmware, .. more], program: _program);
        _started.Add(qemu);
        return qemu;
    }
}
