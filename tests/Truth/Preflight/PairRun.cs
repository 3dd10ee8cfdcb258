using System.Diagnostics;
using System.Text.Json;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Truth.Preflight;

/// <summary>Starts both QEMUs of a pair, takes the pre-flight, and really migrates.</summary>
internal sealed class PairRun : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(5);
    private const long DiskSize = 64 << 20;
    private const string Image = "filename=DIR/";

    /// <summary>What stands for the guest's write.</summary>
    internal const byte Mark = 0xab;

    private readonly PairKind _pair;
    private readonly string _folder = Directory.CreateTempSubdirectory("migrationops-pair-").FullName;

    private PairRun(PairKind pair) => _pair = pair;

    internal QemuProcess Source { get; private set; } = null!;

    internal QemuProcess Target { get; private set; } = null!;

    /// <summary>Where the stream goes.</summary>
    internal string Uri { get; set; } = "";

    /// <summary>What ends with the pair.</summary>
    internal List<IDisposable> Owned { get; } = [];

    internal string File(string name) => Path.Combine(_folder, name);

    /// <summary>The result; null with the reason in <paramref name="unusable"/> if a QEMU does not start that way.</summary>
    internal static async Task<PairResult?> RunAsync(PairKind pair, Action<string> unusable)
    {
        await using var run = new PairRun(pair);
        try
        {
            await run.StartAsync();
        }
        catch (QmpException e) when (e.Reason == QmpError.StartFailed)
        {
            unusable(e.Message);
            return null;
        }

        if (pair.Prepare is not null)
        {
            await pair.Prepare(run);
        }

        var report = await PreflightRun.TestAsync(run.Source.Monitor, () => Task.FromResult(run.Target.Monitor), null, pair.Options, CancellationToken.None);
        string? failure;
        try
        {
            failure = await run.MigrateAsync() ?? await run.LiveAsync();
        }
        catch (QmpException e)
        {
            failure = $"{e.Message} {run.Target.Output.Trim()}".Trim();
        }

        return new PairResult(pair, failure, report);
    }

    public async ValueTask DisposeAsync()
    {
        Owned.ForEach(item => item.Dispose());
        foreach (var qemu in new[] { Source, Target })
        {
            if (qemu is not null)
            {
                qemu.Kill();
                await qemu.DisposeAsync();
            }
        }

        Directory.Delete(_folder, recursive: true);
    }

    private async Task StartAsync()
    {
        string? firmware = PairGuests.Write(_pair.Guest, _folder);
        Uri = $"unix:{File("migrate")}";
        foreach (string name in (_pair.Source + "," + _pair.Target).Split(',').Where(option => option.StartsWith(Image, StringComparison.Ordinal)).Select(option => option[Image.Length..]).Distinct())
        {
            using var file = System.IO.File.Create(File(name));
            file.SetLength(DiskSize);
        }

        Source = await StartAsync(_pair.Program, _pair.Source, firmware, _pair.Guest is null ? ["-S"] : []);
        Target = await StartAsync(_pair.TargetProgram, _pair.Target, firmware, _pair.Incoming switch { null => ["-incoming", "defer"], "" => ["-S"], var uri => ["-incoming", Place(uri)] });
        await SetAsync(Source, "events", "return-path");
        if (_pair.Incoming is null)
        {
            await SetAsync(Target, "events", "return-path");
        }

        if (_pair.Guest is PairGuest.Counting or PairGuest.Popcnt)
        {
            await UntilAsync(async () => await PairGuests.CountAsync(Source.Monitor) > 100);
            // It has run, and goes on on the other side. In between it would only take time from what is measured.
            await Source.Monitor.ExecuteAsync("stop");
        }
    }

    private Task<QemuProcess> StartAsync(string program, string arguments, string? firmware, string[] more) => QemuProcess.StartAsync(new QemuProcessOptions
    {
        Program = Programs.Find(program) ?? throw new InvalidOperationException($"{program} is not installed."),
        Timeouts = new QmpTimeouts(Patience, Patience, Patience),
        Arguments = [.. Place(arguments).Split(' ', StringSplitOptions.RemoveEmptyEntries), "-nodefaults", "-display", "none", .. firmware is null ? [] : new[] { "-bios", firmware }, .. more],
    });

    // Files of a pair are in its own folder: DIR in a command line.
    private string Place(string text) => text.Replace("DIR", _folder, StringComparison.Ordinal);

    internal static Task<JsonElement> SetAsync(QemuProcess qemu, params string[] capabilities) => SetAsync(qemu, true, capabilities);

    private static Task<JsonElement> SetAsync(QemuProcess qemu, bool state, params string[] capabilities) => qemu.Monitor.ExecuteAsync("migrate-set-capabilities", new JsonObject
    {
        ["capabilities"] = new JsonArray([.. capabilities.Select(name => new JsonObject { ["capability"] = name, ["state"] = state })]),
    });

    // As the migration would set both sides that can be set.
    private async Task<string?> MigrateAsync()
    {
        // What a target that listens already was set to, stays.
        foreach (var qemu in _pair.Incoming is null ? new[] { Source, Target } : [])
        {
            await SetAsync(qemu, _pair.Options.Channels > 0, "multifd");
            await SetAsync(qemu, _pair.Options.Mode == QemuMigrationMode.Postcopy, "postcopy-ram");
            await qemu.Monitor.ExecuteAsync("migrate-set-parameters", new JsonObject { ["multifd-channels"] = Math.Max(_pair.Options.Channels, 2) });
        }

        if (_pair.Incoming is null)
        {
            await Target.Monitor.ExecuteAsync("migrate-incoming", new JsonObject { ["uri"] = _pair.Options.Listen?.ToString() ?? Uri });
        }

        await Source.Monitor.ExecuteAsync("migrate", new JsonObject { ["uri"] = _pair.Options.Listen?.ToString() ?? Uri });
        string? status = null;
        if (!await UntilAsync(async () => HasEnded(status = await StatusAsync(Source))))
        {
            return $"no end within {Patience.TotalSeconds:0} s, status {status}";
        }

        if (status != "completed")
        {
            await Task.WhenAny(Target.Exited, Task.Delay(TimeSpan.FromSeconds(1)));
            return $"source {status}: {Target.Output.Trim()}";
        }

        string? there = null;
        if (!await UntilAsync(async () => HasEnded(there = await StatusAsync(Target))))
        {
            return $"target {there}";
        }

        return there == "completed" ? null : $"target {there}: {Target.Output.Trim()}";
    }

    // The guest counts on, or what it wrote to its disk is there.
    private async Task<string?> LiveAsync()
    {
        if (_pair.Guest is PairGuest.Counting or PairGuest.Popcnt)
        {
            await Target.Monitor.ExecuteAsync("cont");
            long before = await PairGuests.CountAsync(Target.Monitor);
            return await UntilAsync(async () => await PairGuests.CountAsync(Target.Monitor) > before + 100, TimeSpan.FromSeconds(5)) ? null : "the guest does not run on";
        }

        // What the source has written must be in the file that the target has.
        return !IsMarked || (await System.IO.File.ReadAllBytesAsync(File(ImageOf(_pair.Target))))[0] == Mark ? null : "what the guest wrote to its disk is not there";
    }

    private static string ImageOf(string arguments) => arguments.Split(',').First(option => option.StartsWith(Image, StringComparison.Ordinal))[Image.Length..];

    /// <summary>True if the source has written a mark to its disk.</summary>
    internal bool IsMarked { get; set; }

    private static bool HasEnded(string? status) => status is "completed" or "failed" or "cancelled";

    private static async Task<string?> StatusAsync(QemuProcess qemu) => (await qemu.Monitor.ExecuteAsync("query-migrate")).Text("status");

    internal static async Task<bool> UntilAsync(Func<Task<bool>> condition, TimeSpan? patience = null)
    {
        var clock = Stopwatch.StartNew();
        while (!await condition())
        {
            if (clock.Elapsed > (patience ?? Patience))
            {
                return false;
            }

            await Task.Delay(Look);
        }

        return true;
    }
}
