using System.Text.Json;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Benchmarks;

/// <summary>A stopped QEMU with RAM from a file, and its monitor.</summary>
internal sealed class QemuForBenchmark : IDisposable
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(5);

    private readonly QemuProcess _qemu;

    internal QemuForBenchmark(TmpfsFolder folder, string name, string? ramFile, string sizeMiB, int channels, params string[] more)
    {
        string backend = ramFile is null ? $"memory-backend-ram,id=m0,size={sizeMiB}M" : $"memory-backend-file,id=m0,size={sizeMiB}M,mem-path={ramFile},share=off";
        _qemu = QemuProcess.StartAsync(new QemuProcessOptions
        {
            Program = "qemu-system-x86_64",
            Arguments = ["-M", "q35,memory-backend=m0", "-object", backend, "-m", sizeMiB, "-S", "-accel", File.Exists("/dev/kvm") ? "kvm" : "tcg",
                "-display", "none", "-nodefaults", .. more],
            MonitorPath = folder.File(name + ".qmp"),
        }).GetAwaiter().GetResult();
        Command("migrate-set-capabilities", new JsonObject
        {
            ["capabilities"] = new JsonArray(new JsonObject { ["capability"] = "multifd", ["state"] = true }),
        });
        Command("migrate-set-parameters", new JsonObject { ["multifd-channels"] = channels, ["max-bandwidth"] = 0x7fffffffffff });
    }

    internal JsonElement Command(string name, JsonObject? arguments = null) => _qemu.Monitor.ExecuteAsync(name, arguments).GetAwaiter().GetResult();

    /// <summary>Migrates and gives the time that QEMU itself states.</summary>
    internal TimeSpan Migrate(string uri)
    {
        Command("migrate", new JsonObject { ["uri"] = uri });
        while (true)
        {
            var info = Command("query-migrate");
            switch (info.Text("status"))
            {
                case "completed":
                    return TimeSpan.FromMilliseconds(info.Number("total-time") ?? 0);
                case "failed":
                    throw new InvalidOperationException($"The migration failed: {info.GetRawText()}");
            }

            _qemu.Exited.Wait(Look);
        }
    }

    public void Dispose() => _qemu.DisposeAsync().AsTask().GetAwaiter().GetResult();
}
