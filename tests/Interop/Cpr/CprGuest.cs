using System.Text.Json.Nodes;
using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Cpr;

/// <summary>Real QEMUs that hand a guest over. The guest is a firmware of its own that does nothing but count in its memory.</summary>
internal sealed class CprGuest : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly List<QemuProcess> _started = [];
    private readonly string _program;
    private readonly string _firmware;

    internal CprGuest(string program = "qemu-system-x86_64")
    {
        _program = program;
        _firmware = _folder.File("count.rom");
        CountingFirmware.Write(_firmware);
        Scope = new TransferScope(TimeSpan.FromSeconds(30));
    }

    internal TransferScope Scope { get; }

    internal string MainSocket => _folder.File("main");

    /// <summary>Where the source sends its descriptors: to us.</summary>
    internal string InSocket => _folder.File("in");

    /// <summary>Where the target expects its descriptors.</summary>
    internal string OutSocket => _folder.File("out");

    internal string TempFile(string name) => _folder.File(name);

    /// <summary>Starts the guest and waits until it counts.</summary>
    internal QemuProcess StartSource(bool running = true)
    {
        var source = Start("source", [], monitorLater: false);
        if (running)
        {
            source.WaitUntil(() => ReadCounter(source) > 1000, "the guest counts");
        }

        return source;
    }

    /// <summary>Starts the process that is to take over; it has no monitor before its descriptors have come.</summary>
    internal QemuProcess StartTarget(string name = "target", string? program = null, string? main = null)
    {
        var target = Start(name,
            ["-incoming", Channel("cpr", OutSocket).ToJsonString(), "-incoming", main ?? Channel("main", MainSocket).ToJsonString()],
            monitorLater: true, program);
        target.WaitForSocket(OutSocket);
        return target;
    }

    internal QemuProcess Start(string name, IEnumerable<string> more, bool monitorLater, string? program = null)
    {
        var qemu = QemuProcess.Start(_folder, name,
        [
            "-M", "q35,memory-backend=m0,aux-ram-share=on", "-accel", QemuProcess.Accelerator,
            "-object", "memory-backend-memfd,id=m0,size=64M,share=on", "-bios", _firmware, .. more,
        ], monitorLater, program ?? _program);
        _started.Add(qemu);
        return qemu;
    }

    /// <summary>Tells the source to hand over to <see cref="InSocket"/>, and receives what it sends.</summary>
    internal IReadOnlyList<CprEntry> Receive(QemuProcess source, CprSession session)
    {
        using var listener = CprListener.Listen(InSocket, Scope);
        source.SetParameters(new JsonObject { ["mode"] = "cpr-transfer" });
        source.Command("migrate", new JsonObject
        {
            ["channels"] = new JsonArray(Channel("main", MainSocket), Channel("cpr", InSocket)),
        });
        return session.Receive(listener, CprListener.DefaultUsers).Entries;
    }

    /// <summary>Forwards entries and waits for the takeover.</summary>
    internal void Forward(CprSession session, IReadOnlyList<CprEntry> entries, CprStateLayout layout = CprStateLayout.AsReceived, bool allowLoss = false)
        => session.Send(OutSocket, entries, layout, allowLoss, Scope).WaitForTakeover(Scope.StartDeadline());

    /// <summary>The guest's counter, read out of its memory.</summary>
    internal static ulong ReadCounter(QemuProcess qemu) => CountingFirmware.ReadCounter(qemu);

    internal static JsonObject Channel(string type, string path) => new()
    {
        ["channel-type"] = type,
        ["addr"] = new JsonObject { ["transport"] = "socket", ["type"] = "unix", ["path"] = path },
    };

    public void Dispose()
    {
        _started.ForEach(qemu => qemu.Dispose());
        Scope.Dispose();
        _folder.Dispose();
    }
}
