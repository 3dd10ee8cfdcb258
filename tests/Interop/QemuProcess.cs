using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests;

/// <summary>A real QEMU with its monitor connected (unless it has none yet, as a CPR target before its state arrives).</summary>
internal sealed class QemuProcess : PeerProcess
{
    private readonly string _monitorPath;
    private QmpMonitor? _monitor;

    private QemuProcess(string program, string monitorPath, IEnumerable<string> arguments)
        : base(program, [.. arguments, "-qmp", $"unix:{monitorPath},server=on,wait=off", "-display", "none", "-nodefaults"])
        => _monitorPath = monitorPath;

    internal static string Accelerator { get; } = KvmWorks() ? "kvm" : "tcg";

    /// <summary>Starts QEMU; connects to the monitor at once unless <paramref name="monitorLater"/>.</summary>
    internal static QemuProcess Start(TestFolder folder, string name, IEnumerable<string> arguments, bool monitorLater = false,
        string program = "qemu-system-x86_64")
    {
        var qemu = new QemuProcess(Peers.Require(program), folder.File(name + ".qmp"), arguments);
        if (!monitorLater)
        {
            qemu.ConnectMonitor();
        }

        return qemu;
    }

    internal void ConnectMonitor()
    {
        WaitForSocket(_monitorPath);
        // A QEMU that has just started on a busy machine is slow to greet.
        var patience = TimeSpan.FromSeconds(Patience);
        var options = new QmpMonitorOptions { Endpoint = new Endpoint.Unix(_monitorPath), Timeouts = new QmpTimeouts(patience, patience, patience) };
        _monitor = QmpMonitor.ConnectAsync(options).GetAwaiter().GetResult();
    }

    /// <summary>Leaves the monitor, so that another client may connect; <see cref="ConnectMonitor"/> comes back.</summary>
    internal void DisconnectMonitor() => _monitor?.DisposeAsync().AsTask().GetAwaiter().GetResult();

    /// <summary>Runs a QMP command and gives its "return" value; an error fails the test with QEMU's words.</summary>
    internal JsonNode Command(string name, JsonNode? arguments = null)
    {
        var reply = Send(name, arguments);
        Assert.True(reply["error"] is null, $"{name}: {reply["error"]?.ToJsonString()}\n{Output}");
        return reply["return"]!;
    }

    /// <summary>Runs a QMP command and gives the whole reply, error or not.</summary>
    internal JsonNode Send(string name, JsonNode? arguments = null)
    {
        try
        {
            var answer = _monitor!.ExecuteAsync(name, (JsonObject?)arguments).GetAwaiter().GetResult();
            return new JsonObject { ["return"] = JsonNode.Parse(answer.GetRawText()) };
        }
        catch (QmpException e) when (e.QemuClass is not null)
        {
            return new JsonObject { ["error"] = new JsonObject { ["class"] = e.QemuClass, ["desc"] = e.QemuDescription } };
        }
        catch (QmpException e)
        {
            throw new IOException($"{e.Message}\n{Output}", e);
        }
    }

    internal string Status => (string)Command("query-status")["status"]!;

    internal string MigrationStatus => (string?)Command("query-migrate")["status"] ?? "none";

    internal void SetCapability(string name, bool on = true) => Command("migrate-set-capabilities", new JsonObject
    {
        ["capabilities"] = new JsonArray(new JsonObject { ["capability"] = name, ["state"] = on }),
    });

    internal void SetParameters(JsonObject parameters) => Command("migrate-set-parameters", parameters);

    internal void Migrate(string uri) => Command("migrate", new JsonObject { ["uri"] = uri });

    /// <summary>Waits for the migration's end and expects it to be the given status.</summary>
    internal void WaitForMigration(string status, double seconds = 240)
    {
        string now = "";
        WaitUntil(() => (now = MigrationStatus) == status || now is "failed" or "cancelled" or "completed", $"migration {status}", seconds);
        Assert.True(now == status, $"The migration is {now}: {Command("query-migrate").ToJsonString()}\n{Output}");
    }

    public override void Dispose()
    {
        DisconnectMonitor();
        base.Dispose();
    }

    private static bool KvmWorks()
    {
        try
        {
            using var kvm = File.Open("/dev/kvm", FileMode.Open, FileAccess.ReadWrite);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
