using System.Diagnostics;
using System.Net;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Quickstart;

/// <summary>The same steps as Quickstart.ps1, without PowerShell.</summary>
internal static class EngineTour
{
    internal static void Run(string folder, long size)
    {
        string source = Path.Combine(folder, "source.sock");
        string target = Path.Combine(folder, "target.sock");
        var file = new Endpoint.File(Path.Combine(folder, "device.state"));
        using var stop = new CancellationTokenSource();
        Console.CancelKeyPress += (_, e) =>
        {
            e.Cancel = true;
            stop.Cancel();
        };
        using var scope = new TransferScope(TransferScope.DefaultTimeout, stop.Token);
        using var first = VhostBackend.Start(new VhostBackendOptions { SocketPath = source, State = new PatternBackendState(size) });
        using var second = VhostBackend.Start(new VhostBackendOptions { SocketPath = target, State = new PatternBackendState(size) });

        var rows = new List<(string Step, long Bytes, TimeSpan Duration, string Result)>();
        var saved = VhostStateSaver.Save(Options(source, file, "Saving"), scope);
        Add("save to file", saved);

        long start = Stopwatch.GetTimestamp();
        var verification = StateFile.Verify(file.Path, DeviceStateKind.VhostUser, raw: false, requireManifest: true, scope);
        if (verification.Failure is { } failure)
        {
            throw failure;
        }

        rows.Add(("verify file", saved.Bytes, Stopwatch.GetElapsedTime(start), $"{verification.Report.Checks.Length} checks passed"));
        Add("load from file", VhostStateLoader.Load(Options(target, file, "Loading"), scope));

        var (sent, received) = SendAndReceive(source, target, scope);
        Add("save and send", sent);
        Add("receive and load", received);

        Console.WriteLine();
        Console.WriteLine($"{"Step",-18}{"Bytes",15}{"Duration",12}{"Throughput",16}  Result");
        foreach (var (step, bytes, duration, result) in rows)
        {
            Console.WriteLine($"{step,-18}{bytes,15:N0}{duration.TotalMilliseconds,9:N0} ms{bytes / duration.TotalSeconds / (1 << 20),10:N0} MiB/s  {result}");
        }

        Console.WriteLine($"SHA-256 {saved.Sha256}");

        void Add(string step, VhostStateTransfer transfer)
            => rows.Add((step, transfer.Bytes, transfer.Duration, transfer.Checked ? "checked by the back-end" : "NOT CHECKED"));
    }

    // One thread plays the destination host, this one the source host.
    private static (VhostStateTransfer Sent, VhostStateTransfer Received) SendAndReceive(string source, string target, TransferScope scope)
    {
        var listening = new TaskCompletionSource<Endpoint>();
        var receiver = Task.Factory.StartNew(
            () => VhostStateLoader.Load(Options(target, new Endpoint.Tcp(IPAddress.Loopback.ToString(), 0), "Receiving"), scope,
                listening: listening.SetResult),
            scope.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        Task.WaitAny(listening.Task, receiver);
        if (receiver.IsFaulted)
        {
            receiver.GetAwaiter().GetResult();
        }

        var sent = VhostStateSaver.Save(Options(source, listening.Task.Result, ""), scope);
        return (sent, receiver.GetAwaiter().GetResult());
    }

    private static VhostTransferOptions Options(string socket, Endpoint endpoint, string activity)
    {
        long last = 0;
        return new VhostTransferOptions
        {
            SocketPath = socket,
            Endpoint = endpoint,
            Progress = (bytes, _) =>
            {
                if (activity.Length > 0 && !Console.IsOutputRedirected && Stopwatch.GetElapsedTime(last).TotalMilliseconds >= 200)
                {
                    last = Stopwatch.GetTimestamp();
                    Console.Write($"\r{activity}: {bytes / (1 << 20):N0} MiB   \r");
                }
            },
        };
    }
}
