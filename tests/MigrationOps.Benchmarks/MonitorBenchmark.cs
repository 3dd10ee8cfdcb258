using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Benchmarks;

/// <summary>The monitor client: how fast it is connected, and what it costs to watch many.</summary>
internal sealed class MonitorBenchmark : TransferBenchmark
{
    internal const string PeersArgument = "--monitor-peers";

    private const int Watched = 500;
    private static readonly TimeSpan Measured = TimeSpan.FromSeconds(20);

    internal override string Name => "monitor";

    internal override string Description => $"connect, greeting and query-status; {Watched} monitors watched in this process, scripted in another one";

    internal override void Run(BenchmarkReport report) => RunAsync(report).GetAwaiter().GetResult();

    /// <summary>The other process: scripted monitors whose migration never ends, until its input ends.</summary>
    internal static async Task<int> ServePeersAsync(string folder, int count)
    {
        var answers = new Dictionary<string, string>
        {
            ["query-status"] = """{"status": "running", "running": true}""",
            ["query-name"] = """{"name": "vm"}""",
            ["query-migrate-capabilities"] = """[{"capability": "events", "state": true}]""",
            ["query-migrate"] = """{"status": "active", "total-time": 1500, "expected-downtime": 300, "setup-time": 5, "ram": {"transferred": 1000000, "remaining": 2000000, "total": 8000000, "duplicate": 1, "normal": 2, "normal-bytes": 8192, "dirty-pages-rate": 10, "mbps": 8.5, "dirty-sync-count": 3, "page-size": 4096, "multifd-bytes": 7, "pages-per-second": 6, "precopy-bytes": 5, "downtime-bytes": 4, "postcopy-bytes": 3, "postcopy-requests": 2}}""",
        };
        var servers = Enumerable.Range(0, count).Select(i => QmpServer.StartTable(PathOf(folder, i), answers)).ToArray();
        Console.WriteLine("ready");
        await Console.In.ReadToEndAsync();
        foreach (var server in servers)
        {
            await server.DisposeAsync();
        }

        return 0;
    }

    private static async Task RunAsync(BenchmarkReport report)
    {
        using var folder = new TmpfsFolder();
        await using (var qemu = QemuProcess.Launch(new QemuProcessOptions
        {
            Program = "qemu-system-x86_64",
            Arguments = ["-M", "none", "-S", "-nodefaults", "-display", "none"],
            MonitorPath = folder.File("qemu"),
        }))
        {
            await (await qemu.ConnectAsync()).DisposeAsync();
            await ConnectAsync(report, "a real QEMU: connect, greeting, query-status", folder.File("qemu"));
        }

        using var peers = StartPeers(folder, Watched);
        await ConnectAsync(report, "a scripted monitor: the same", PathOf(folder.Path, 0));
        await WatchAsync(report, folder);
        peers.StandardInput.Close();
        await peers.WaitForExitAsync();
    }

    private static async Task ConnectAsync(BenchmarkReport report, string what, string path)
    {
        var times = new List<double>();
        for (int i = 0; i < 120; i++)
        {
            long start = Stopwatch.GetTimestamp();
            await using var monitor = await QmpMonitor.ConnectAsync(new QmpMonitorOptions { Endpoint = new Endpoint.Unix(path) });
            await monitor.ExecuteAsync("query-status");
            times.Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
        }

        report.Figure(what, BenchmarkReport.Median(times.Skip(20)), "ms", 5);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {"a bare blocking socket beside it",-44} {BenchmarkReport.Median(Enumerable.Range(0, 100).Select(_ => Bare(path))):0.0} ms"));
    }

    // The least that the same conversation can take on this machine now.
    private static double Bare(string path)
    {
        long start = Stopwatch.GetTimestamp();
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(path));
        using var lines = new StreamReader(new NetworkStream(socket));
        lines.ReadLine();
        foreach (string command in new[] { "qmp_capabilities", "query-status" })
        {
            socket.Send(System.Text.Encoding.ASCII.GetBytes($$"""{"execute": "{{command}}"}"""));
            lines.ReadLine();
        }

        return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }

    private static async Task WatchAsync(BenchmarkReport report, TmpfsFolder folder)
    {
        using var process = Process.GetCurrentProcess();
        long idle = GC.GetTotalMemory(forceFullCollection: true);
        using var stop = new CancellationTokenSource();
        int samples = 0;
        var monitors = await Task.WhenAll(Enumerable.Range(0, Watched).Select(i => QmpMonitor.ConnectAsync(new QmpMonitorOptions { Endpoint = new Endpoint.Unix(PathOf(folder.Path, i)) })));
        var watches = monitors.Select(async monitor =>
        {
            await foreach (var _ in new MigrationWatch(monitor, null).WatchAsync(stop.Token))
            {
                Interlocked.Increment(ref samples);
            }
        }).ToArray();
        await Task.Delay(TimeSpan.FromSeconds(5));
        process.Refresh();
        var before = process.TotalProcessorTime;
        int samplesBefore = Volatile.Read(ref samples);
        long start = Stopwatch.GetTimestamp();
        await Task.Delay(Measured);
        process.Refresh();
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        double core = (process.TotalProcessorTime - before).TotalSeconds / seconds;
        double rate = (Volatile.Read(ref samples) - samplesBefore) / seconds;
        long used = GC.GetTotalMemory(forceFullCollection: true) - idle;
        await stop.CancelAsync();
        await Task.WhenAll(watches).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        foreach (var monitor in monitors)
        {
            await monitor.DisposeAsync();
        }

        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {rate:0} samples a second of {Watched} monitors"));
        report.Figure($"watching {Watched} monitors", core * 100, "% of a core", 5);
        report.Figure("memory of each", used / 1024.0 / Watched, "KiB", 1024);
    }

    private static Process StartPeers(TmpfsFolder folder, int count)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath!) { RedirectStandardInput = true, RedirectStandardOutput = true };
        string assembly = typeof(MonitorBenchmark).Assembly.Location;
        string[] arguments = [PeersArgument, folder.Path, count.ToString(CultureInfo.InvariantCulture)];
        foreach (string argument in Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet" ? [assembly, .. arguments] : arguments)
        {
            start.ArgumentList.Add(argument);
        }

        var process = Process.Start(start)!;
        process.StandardOutput.ReadLine();
        return process;
    }

    private static string PathOf(string folder, int number) => Path.Combine(folder, string.Create(CultureInfo.InvariantCulture, $"m{number}"));
}
