using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;

namespace MigrationOps.Benchmarks;

/// <summary>A stopped QEMU with RAM from a file, and its monitor.</summary>
internal sealed class QemuForBenchmark : IDisposable
{
    private readonly Process _process;
    private readonly Socket _monitor = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly StreamReader _replies;

    internal QemuForBenchmark(TmpfsFolder folder, string name, string? ramFile, string sizeMiB, int channels, params string[] more)
    {
        string socket = folder.File(name + ".qmp");
        string backend = ramFile is null ? $"memory-backend-ram,id=m0,size={sizeMiB}M" : $"memory-backend-file,id=m0,size={sizeMiB}M,mem-path={ramFile},share=off";
        _process = Process.Start(new ProcessStartInfo("qemu-system-x86_64",
            ["-M", "q35,memory-backend=m0", "-object", backend, "-m", sizeMiB, "-S", "-accel", File.Exists("/dev/kvm") ? "kvm" : "tcg",
                "-display", "none", "-nodefaults", "-qmp", $"unix:{socket},server=on,wait=off", .. more]))!;
        Connect(socket);
        _replies = new StreamReader(new NetworkStream(_monitor), Encoding.UTF8);
        _replies.ReadLine();
        Command("qmp_capabilities");
        Command("migrate-set-capabilities", new JsonObject
        {
            ["capabilities"] = new JsonArray(new JsonObject { ["capability"] = "multifd", ["state"] = true }),
        });
        Command("migrate-set-parameters", new JsonObject { ["multifd-channels"] = channels, ["max-bandwidth"] = 0x7fffffffffff });
    }

    internal JsonNode Command(string name, JsonNode? arguments = null)
    {
        var request = new JsonObject { ["execute"] = name };
        if (arguments is not null)
        {
            request["arguments"] = arguments;
        }

        _monitor.Send(Encoding.UTF8.GetBytes(request.ToJsonString() + "\n"));
        while (_replies.ReadLine() is { } line)
        {
            var reply = JsonNode.Parse(line)!;
            if (reply["event"] is null)
            {
                return reply["return"] ?? throw new InvalidOperationException($"{name}: {line}");
            }
        }

        throw new IOException("QEMU has closed its monitor.");
    }

    /// <summary>Migrates and gives the time that QEMU itself states.</summary>
    internal TimeSpan Migrate(string uri)
    {
        Command("migrate", new JsonObject { ["uri"] = uri });
        while (true)
        {
            var info = Command("query-migrate");
            switch ((string?)info["status"])
            {
                case "completed":
                    return TimeSpan.FromMilliseconds((long)info["total-time"]!);
                case "failed":
                    throw new InvalidOperationException($"The migration failed: {info.ToJsonString()}");
            }

            _process.WaitForExit(5);
        }
    }

    public void Dispose()
    {
        _replies.Dispose();
        _monitor.Dispose();
        _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private void Connect(string socket)
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            try
            {
                _monitor.Connect(new UnixDomainSocketEndPoint(socket));
                return;
            }
            catch (SocketException) when (clock.Elapsed.TotalSeconds < 10 && !_process.WaitForExit(10))
            {
                // Not listening yet.
            }
        }
    }
}
