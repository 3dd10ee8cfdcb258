using System.Diagnostics;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Truth;

/// <summary>Starts a QEMU that never runs its guest, and asks its monitor.</summary>
internal sealed class TruthQemu : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    // A destination ends by itself after it has said why it refuses.
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(5);

    private readonly QemuProcess _qemu;
    private readonly CommandLine _line;
    private readonly bool _answers;

    private TruthQemu(CommandLine line, params string[] more)
    {
        _line = line;
        _qemu = QemuProcess.Launch(new QemuProcessOptions
        {
            Program = Programs.Find(line.Program) ?? throw new InvalidOperationException($"{line.Program} is not installed."),
            Arguments = [.. line.Words, "-S", "-nodefaults", "-display", "none", .. more],
            Timeouts = QmpTimeouts.Of(Patience),
        });
        try
        {
            _qemu.ConnectAsync().GetAwaiter().GetResult();
            _answers = true;
        }
        catch (QmpException e) when (e.Reason == QmpError.StartFailed)
        {
            // It does not start with this command line; its words say why.
        }
    }

    /// <summary>Saves a VM of this command line to a file.</summary>
    /// <returns>Null, or why there is no stream: QEMU does not start that way, or does not migrate it.</returns>
    internal static string? Save(CommandLine line, string path)
    {
        using var qemu = new TruthQemu(line);
        if (line.IsBooted && qemu.Boot() is { } failure)
        {
            return failure;
        }

        string part = path + ".part";
        if ((qemu.Prepare() ?? qemu.Send("migrate", new JsonObject { ["uri"] = line.IsOlder ? $"exec:cat > {part}" : $"file:{part}" })) is { } refusal)
        {
            return refusal;
        }

        if (!qemu.WaitForMigration())
        {
            return qemu.Words;
        }

        qemu.Quit();
        File.Move(part, path, overwrite: true);
        return null;
    }

    /// <summary>Lets a VM of this command line load a stream.</summary>
    /// <returns>Empty if it loaded, else what QEMU said; null if it does not start as a destination.</returns>
    internal static string? Load(CommandLine line, string path)
    {
        using var qemu = new TruthQemu(line, "-incoming", "defer");
        if (qemu.Prepare() is not null)
        {
            return null;
        }

        string? refused = qemu.Send("migrate-incoming", new JsonObject { ["uri"] = line.IsOlder ? $"exec:cat {path}" : $"file:{path}" });
        return refused ?? (qemu.WaitForMigration() ? "" : qemu.Words);
    }

    /// <summary>The layouts that this QEMU can load.</summary>
    internal static void Dump(CommandLine line, string path)
    {
        using var process = Process.Start(Programs.Find(line.Program)!, ["-M", line.Machine, "-dump-vmstate", path]);
        process.WaitForExit();
    }

    /// <summary>The properties of a device type, as QEMU tells them.</summary>
    internal static JsonNode? Ask(CommandLine line, string command, JsonObject arguments)
    {
        using var qemu = new TruthQemu(line);
        JsonNode? answer = null;
        qemu.Send(command, arguments, reply => answer = reply);
        return answer;
    }

    private string Words
    {
        get
        {
            try
            {
                _qemu.Exited.WaitAsync(Grace).GetAwaiter().GetResult();
            }
            catch (TimeoutException)
            {
                _qemu.Kill();
                _qemu.Exited.Wait();
            }

            string words = _qemu.Output.Trim();
            return words.Length > 0 ? words : "it ended without a message";
        }
    }

    private string? Prepare()
    {
        var capabilities = new JsonArray(new JsonObject { ["capability"] = "events", ["state"] = true });
        if (_line.Arguments.Contains("share=on", StringComparison.Ordinal))
        {
            capabilities.Add(new JsonObject { ["capability"] = "x-ignore-shared", ["state"] = true });
        }

        return Send("migrate-set-capabilities", new JsonObject { ["capabilities"] = capabilities });
    }

    // The firmware is far enough when it has given the first PCI device its addresses.
    private string? Boot()
    {
        if (Send("cont") is { } failure)
        {
            return failure;
        }

        var clock = Stopwatch.StartNew();
        while (clock.Elapsed < TimeSpan.FromSeconds(15))
        {
            string text = "";
            if (Send("human-monitor-command", new JsonObject { ["command-line"] = "info pci" }, reply => text = (string?)reply ?? "") is { } refusal)
            {
                return refusal;
            }

            if (text.Contains("memory at 0xf", StringComparison.Ordinal) && !text.Contains("at 0xffffffffffffffff", StringComparison.Ordinal))
            {
                break;
            }
        }

        return Send("stop");
    }

    /// <summary>Null if the command did what it should, else the error.</summary>
    private string? Send(string command, JsonObject? arguments = null, Action<JsonNode?>? onReply = null)
    {
        if (!_answers)
        {
            return Words;
        }

        try
        {
            var answer = _qemu.Monitor.ExecuteAsync(command, arguments).GetAwaiter().GetResult();
            onReply?.Invoke(JsonNode.Parse(answer.GetRawText()));
            return null;
        }
        catch (QmpException e)
        {
            return e.QemuDescription ?? Words;
        }
    }

    private bool WaitForMigration()
    {
        try
        {
            var end = _qemu.Monitor.WaitForEventAsync(received => received.Event.Name == "MIGRATION" && received.Event.Data.Text("status") is "completed" or "failed", 0, Patience).GetAwaiter().GetResult();
            return end.Event.Data.Text("status") == "completed";
        }
        catch (QmpException)
        {
            // It has ended, or it hangs.
            _qemu.Kill();
            return false;
        }
    }

    private void Quit() => Send("quit");

    public void Dispose()
    {
        _qemu.Kill();
        _qemu.DisposeAsync().AsTask().GetAwaiter().GetResult();
    }
}

/// <summary>Where the real QEMUs are: in the folder that install-peers.sh fills, else on PATH.</summary>
internal static class Programs
{
    internal static string Root { get; } = Environment.GetEnvironmentVariable("MIGRATIONOPS_PEERS")
        ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache/migrationops/peers");

    internal static string? Find(string name) => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
        .Prepend(Path.Combine(Root, "bin")).Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists);
}
