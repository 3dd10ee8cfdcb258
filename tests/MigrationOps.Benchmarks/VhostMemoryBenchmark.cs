using System.Globalization;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Benchmarks;

/// <summary>Resident memory during a save, whatever the size of the state.</summary>
internal sealed class VhostMemoryBenchmark : TransferBenchmark
{
    internal override string Name => "vhost-memory";

    internal override string Description => "resident memory of the process during a save, above idle (back-end included)";

    internal override void Run(BenchmarkReport report)
    {
        using var folder = new TmpfsFolder();
        Measure(folder, 16 << 20, hash: true);
        foreach (long size in new[] { 256L << 20, 16L << 30 })
        {
            foreach (bool hash in new[] { true, false })
            {
                report.Figure($"{size >> 20:N0} MiB, hash {(hash ? "on" : "off")}", Measure(folder, size, hash), "MiB above idle", 64);
            }
        }
    }

    private static double Measure(TmpfsFolder folder, long size, bool hash)
    {
        string socket = folder.File("b.sock");
        using var scope = new TransferScope(TransferScope.DefaultTimeout);
        using var backend = VhostBackend.Start(new VhostBackendOptions { SocketPath = socket, State = new PatternBackendState(size) });
        using var sink = File.OpenWrite("/dev/null");

        GC.Collect();

        // 5 resets the peak of the resident set (proc_pid_clear_refs(5)).
        File.WriteAllText("/proc/self/clear_refs", "5");
        long idle = Peak();
        VhostStateSaver.Save(new VhostTransferOptions
        {
            SocketPath = socket,
            Endpoint = new Endpoint.Fd((int)sink.SafeFileHandle.DangerousGetHandle()),
            Raw = true,
            ComputeHash = hash,
        }, scope);
        return (Peak() - idle) / 1024.0;
    }

    private static long Peak()
    {
        string line = File.ReadLines("/proc/self/status").First(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
    }
}
