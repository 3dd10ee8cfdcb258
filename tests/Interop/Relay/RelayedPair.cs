using System.Text.Json.Nodes;
using MigrationOps.Engine.Relay;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Relay;

/// <summary>Two real QEMUs and a relay between them.</summary>
internal sealed class RelayedPair : IDisposable
{
    internal const string Newest = "qemu-system-x86_64-newer";
    internal const string Older = "qemu-system-x86_64-older";

    private readonly TestFolder _folder = new();

    private RelayedPair(string program, bool tcp, string[] machine, string[] sourceOptions, string[] targetOptions, Action<QemuProcess> configure)
    {
        string firmware = _folder.File("firmware.bin");
        CountingFirmware.Write(firmware);
        string[] arguments = [.. machine, "-bios", firmware];
        Source = QemuProcess.Start(_folder, "src", [.. arguments, .. sourceOptions], program: program);
        Target = QemuProcess.Start(_folder, "dst", [.. arguments, "-incoming", "defer", .. targetOptions], program: program);
        TargetUri = tcp ? $"tcp:127.0.0.1:{FreePort()}" : $"unix:{_folder.File("target")}";
        Source.SetParameters(new JsonObject { ["max-bandwidth"] = 0x7fffffffffff });
        foreach (var qemu in new[] { Source, Target })
        {
            qemu.SetCapability("return-path");
            configure(qemu);
        }

        Target.Command("migrate-incoming", new JsonObject { ["uri"] = TargetUri });
    }

    internal static string[] SmallMachine { get; } = ["-M", "pc", "-accel", QemuProcess.Accelerator, "-m", "32"];

    internal QemuProcess Source { get; }

    internal QemuProcess Target { get; }

    internal string TargetUri { get; }

    internal MigrationRelay Relay { get; private set; } = null!;

    internal TestFolder Folder => _folder;

    internal static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    internal static RelayedPair Start(
        string program, Action<QemuProcess>? configure = null, IReadOnlyList<RelayFault>? faults = null, bool tcp = false,
        Func<RelayedPair, RelayOptions, RelayOptions>? relay = null, string[]? machine = null, string[]? sourceOptions = null, string[]? targetOptions = null)
    {
        var pair = new RelayedPair(program, tcp, machine ?? SmallMachine, sourceOptions ?? [], targetOptions ?? [], configure ?? (_ => { }));
        try
        {
            var options = new RelayOptions
            {
                Listen = Endpoint.Parse(tcp ? "tcp:127.0.0.1:0" : $"unix:{pair._folder.File("relay")}"),
                Target = Endpoint.Parse(pair.TargetUri),
                Faults = faults ?? [],
            };
            pair.Relay = MigrationRelay.Start(relay?.Invoke(pair, options) ?? options);
            return pair;
        }
        catch
        {
            pair.Dispose();
            throw;
        }
    }

    internal static Action<QemuProcess> Multifd(int channels, string compression = "none") => qemu =>
    {
        qemu.SetCapability("multifd");
        qemu.SetParameters(new JsonObject { ["multifd-channels"] = channels, ["multifd-compression"] = compression });
    };

    internal void Migrate() => Source.Migrate(Relay.Endpoint.ToString());

    /// <summary>The migration is whole: the source has given up its guest, the target runs it, and the relay knows.</summary>
    internal RelayStatus AssertMoved()
    {
        Source.WaitUntil(() => Source.MigrationStatus == "completed" || Relay.Status.Failure is not null, "the migration has completed");
        Assert.True(Relay.Status.Failure is null, $"{Relay.Status.Failure}\n{string.Join('\n', Relay.Status.Channels)}\n{Target.Output}");
        Target.WaitUntil(() => Target.Status == "running", "the guest runs at the target");
        Assert.Equal("postmigrate", Source.Status);
        var status = Relay.WaitFor(s => !s.IsRunning, Cancelled);
        Assert.Null(status.Failure);
        return status;
    }

    /// <summary>The guest runs on at the source, and the relay says why.</summary>
    internal Exception AssertFailed()
    {
        var status = Relay.WaitFor(s => !s.IsRunning, Cancelled);
        Assert.Equal(RelayPhase.Failed, status.Phase);
        Source.WaitUntil(() => Source.MigrationStatus == "failed", "the source has failed");
        Source.WaitUntil(() => Source.Status == "running", "the guest runs on at the source");
        ulong counter = CountingFirmware.ReadCounter(Source);
        Source.WaitUntil(() => CountingFirmware.ReadCounter(Source) != counter, "the guest counts on");
        return Assert.IsType<MigrationOpsException>(status.Failure, exactMatch: false);
    }

    public void Dispose()
    {
        Source.Dispose();
        Target.Dispose();
        Relay?.Dispose();
        _folder.Dispose();
    }

    // QEMU takes no port 0 for a migration; a port that was free a moment ago is the best there is.
    private static int FreePort()
    {
        using var probe = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        probe.Start();
        return ((System.Net.IPEndPoint)probe.LocalEndpoint).Port;
    }
}
