using MigrationOps.Engine.Relay;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Benchmarks;

/// <summary>A real QEMU migrates RAM without a zero page into a real QEMU: through a relay, and directly, over loopback.</summary>
internal sealed class RelayBenchmark : TransferBenchmark
{
    private const int SizeMiB = 1024;

    internal override string Name => "relay";

    internal override string Description => $"a real QEMU migrates {SizeMiB} MiB of non-zero RAM into a real QEMU, through a relay and directly, over TCP on loopback";

    internal override void Run(BenchmarkReport report)
    {
        using var folder = new TmpfsFolder();
        string ram = folder.File("ram");
        Fill(ram);
        foreach (int channels in new[] { 1, 4 })
        {
            report.Compare($"{channels} channel{(channels == 1 ? "" : "s")}", (long)SizeMiB << 20, 0.9,
                () => Migrate(folder, ram, channels, isRelayed: true), () => Migrate(folder, ram, channels, isRelayed: false));
        }
    }

    private static TimeSpan Migrate(TmpfsFolder folder, string ram, int channels, bool isRelayed)
    {
        using var source = new QemuForBenchmark(folder, "src", ram, $"{SizeMiB}", channels);
        using var target = new QemuForBenchmark(folder, "dst", null, $"{SizeMiB}", channels, "-incoming", "defer");
        string uri = $"tcp:127.0.0.1:{FreePort()}";
        target.Command("migrate-incoming", new() { ["uri"] = uri });
        using var relay = isRelayed ? MigrationRelay.Start(new RelayOptions { Listen = new Endpoint.Tcp("127.0.0.1", 0), Target = Endpoint.Parse(uri) }) : null;
        return source.Migrate(relay?.Endpoint.ToString() ?? uri);
    }

    // QEMU takes no port 0 for a migration; a port that was free a moment ago is the best there is.
    private static int FreePort()
    {
        using var probe = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        probe.Start();
        return ((System.Net.IPEndPoint)probe.LocalEndpoint).Port;
    }

    private static void Fill(string path)
    {
        byte[] block = new byte[1 << 20];
        new Random(1).NextBytes(block);
        using var file = File.Create(path);
        for (int i = 0; i < SizeMiB; i++)
        {
            file.Write(block);
        }
    }
}
