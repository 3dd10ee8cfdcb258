using System.Diagnostics;
using System.Text;
using System.Text.Json.Nodes;

namespace MigrationOps.Truth;

/// <summary>Starts a QEMU that never runs its guest, with the monitor on its standard input and output.</summary>
internal sealed class TruthQemu : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    // A destination ends by itself after it has said why it refuses.
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(5);

    private readonly Process _process;
    private readonly StringBuilder _errors = new();
    private readonly CommandLine _line;

    private TruthQemu(CommandLine line, params string[] more)
    {
        _line = line;
        var start = new ProcessStartInfo(Programs.Find(line.Program) ?? throw new InvalidOperationException($"{line.Program} is not installed."))
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (string argument in line.Words.Concat(["-S", "-nodefaults", "-display", "none", "-qmp", "stdio"]).Concat(more))
        {
            start.ArgumentList.Add(argument);
        }

        _process = Process.Start(start)!;
        _process.ErrorDataReceived += (_, e) =>
        {
            lock (_errors)
            {
                _errors.AppendLine(e.Data);
            }
        };
        _process.BeginErrorReadLine();
        Send("qmp_capabilities");
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
            if (!_process.WaitForExit(Grace))
            {
                Kill();
            }

            _process.WaitForExit();
            lock (_errors)
            {
                string words = _errors.ToString().Trim();
                return words.Length > 0 ? words : "it ended without a message";
            }
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
        var request = new JsonObject { ["execute"] = command };
        if (arguments is not null)
        {
            request["arguments"] = arguments;
        }

        try
        {
            _process.StandardInput.WriteLine(request.ToJsonString());
            _process.StandardInput.Flush();
        }
        catch (IOException)
        {
            return Words;
        }

        while (_process.StandardOutput.ReadLine() is { } text)
        {
            if (Parse(text) is not { } line || line["QMP"] is not null || line["event"] is not null)
            {
                continue;
            }

            onReply?.Invoke(line["return"]);
            return (string?)line["error"]?["desc"];
        }

        return Words;
    }

    // Some boards print to standard output as well.
    private static JsonNode? Parse(string line)
    {
        try
        {
            return line.StartsWith('{') ? JsonNode.Parse(line) : null;
        }
        catch (System.Text.Json.JsonException)
        {
            return null;
        }
    }

    private bool WaitForMigration()
    {
        using var late = new Timer(_ => Kill(), null, Patience, Timeout.InfiniteTimeSpan);
        while (_process.StandardOutput.ReadLine() is { } text)
        {
            if (Parse(text) is { } line && (string?)line["event"] == "MIGRATION")
            {
                switch ((string?)line["data"]?["status"])
                {
                    case "completed":
                        return true;
                    case "failed":
                        return false;
                }
            }
        }

        return false;
    }

    private void Quit() => Send("quit");

    private void Kill()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
        }
    }

    public void Dispose()
    {
        Kill();
        _process.WaitForExit();
        _process.Dispose();
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
