using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Benchmarks;

/// <summary>A real QEMU migrates 2 GiB of RAM without a zero page over 4 channels: into the receiver, and into a real QEMU.</summary>
internal sealed class QemuReceiveBenchmark : TransferBenchmark
{
    private const int SizeMiB = 2048;
    private const int Channels = 4;

    internal override string Name => "qemu-receive";

    internal override string Description => $"a real QEMU migrates {SizeMiB} MiB of non-zero RAM over {Channels} channels";

    internal override void Run(BenchmarkReport report)
    {
        using var folder = new TmpfsFolder();
        string ram = folder.File("ram");
        Fill(ram);
        report.Compare("into Receive, against a QEMU target", (long)SizeMiB << 20, 1.0, () => IntoReceiver(folder, ram), () => IntoQemu(folder, ram));
    }

    private static TimeSpan IntoReceiver(TmpfsFolder folder, string ram)
    {
        using var source = NewSource(folder, ram);
        // A target that is killed right after its migration may leave its socket file.
        File.Delete(folder.File("m.sock"));
        var listening = new TaskCompletionSource<Endpoint>();
        using var scope = new TransferScope(TimeSpan.FromSeconds(30), ProgressRule.WholeTransfer);
        var receiver = Task.Factory.StartNew(() => VfioStateReceiver.Receive(new VfioReceiveOptions
        {
            Endpoint = new Endpoint.Unix(folder.File("m.sock")),
            Receive = new ReceiveOptions { Channels = Channels },
            Listening = listening.SetResult,
        }, NullLogger.Instance, scope), TaskCreationOptions.LongRunning);
        receiver.ContinueWith(t => listening.TrySetException(t.Exception!), CancellationToken.None,
            TaskContinuationOptions.OnlyOnFaulted, TaskScheduler.Default);
        var time = source.Migrate(listening.Task.GetAwaiter().GetResult().ToString());
        receiver.GetAwaiter().GetResult();
        return time;
    }

    private static TimeSpan IntoQemu(TmpfsFolder folder, string ram)
    {
        using var source = NewSource(folder, ram);
        using var target = new QemuForBenchmark(folder, "dst", null, $"{SizeMiB}", Channels, "-incoming", "defer");
        string uri = "unix:" + folder.File("m.sock");
        target.Command("migrate-incoming", new JsonObject { ["uri"] = uri });
        return source.Migrate(uri);
    }

    private static QemuForBenchmark NewSource(TmpfsFolder folder, string ram) => new(folder, "src", ram, $"{SizeMiB}", Channels);

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
