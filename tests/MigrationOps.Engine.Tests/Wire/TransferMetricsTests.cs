using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.Cpr;
using MigrationOps.Engine.Tests.SaveVm;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Tests.Vfio;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Wire;

/// <summary>Every kind of transfer is counted: run it, and look at the meter.</summary>
[Collection(nameof(DescriptorLimit))]
public sealed class TransferMetricsTests : IDisposable
{
    // A size that no other test has.
    private const int Size = 1_234_577;

    private readonly TestFolder _folder = new();
    private readonly MeterReadings _meter = new();
    private readonly TransferScope _scope = new(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);

    public void Dispose()
    {
        _scope.Dispose();
        _meter.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void Saving_and_loading_the_state_of_a_back_end()
    {
        string file = _folder.File("state");
        using (Transfers.Backend(_folder.File("a"), new MemoryBackendState(new byte[Size])))
        {
            Transfers.Save(_folder.File("a"), new Endpoint.File(file));
        }

        using (Transfers.Backend(_folder.File("b"), new MemoryBackendState(ReadOnlyMemory<byte>.Empty)))
        {
            Transfers.Load(_folder.File("b"), new Endpoint.File(file));
        }

        _meter.Saw("vhost-user", "save", Size);
        _meter.Saw("vhost-user", "load", Size);
    }

    [Theory]
    [InlineData(VfioStateFormat.StateFile, Size + 1)]
    [InlineData(VfioStateFormat.Markers, Size + 2)]
    internal void Saving_and_restoring_the_state_of_a_VFIO_device(VfioStateFormat format, int size)
    {
        using (var saved = new VfioDevice(new FakeVfioDriver(VfioMigrationFlags.StopCopy, new byte[size])))
        {
            VfioStateStore.Save(saved, _folder.File("state"), null, format, _scope);
        }

        using var restored = new VfioDevice(new FakeVfioDriver(VfioMigrationFlags.StopCopy));
        VfioStateStore.Restore(restored, _folder.File("state"), format, VfioState.Running, _scope);
        _meter.Saw("vfio", "save", size);
        _meter.Saw("vfio", "load", size);
    }

    [Fact]
    public void Sending_receiving_and_replaying_device_state_over_multifd_channels()
    {
        const int Bytes = Size + 3;
        string archive = _folder.File("archive");
        var listening = new TaskCompletionSource<Endpoint>();
        var receiver = Waiting.OnThread(() => Receive(archive, listening.SetResult));
        using var device = new VfioDevice(new FakeVfioDriver(VfioMigrationFlags.StopCopy, new byte[Bytes]));
        using (var source = new DeviceSource(device, "0000:00:04.0/vfio", _scope))
        using (var sending = Whole())
        {
            VfioStateSender.Send([source], new VfioSendOptions { Endpoint = listening.Task.Result("the listener") }, sending);
        }

        receiver.Result("the receipt");
        _meter.Saw("vfio-multifd", "send", Bytes);
        _meter.Saw("vfio-multifd", "receive", Bytes);

        var again = new TaskCompletionSource<Endpoint>();
        var second = Waiting.OnThread(() => Receive(_folder.File("second"), again.SetResult));
        using var replaying = Whole();
        var replay = ArchiveReplay.Send(archive, again.Task.Result("the listener"), TransportSecurity.Default, verified: false, replaying);
        second.Result("the second receipt");
        _meter.Saw("vfio-multifd", "replay", replay.Bytes);
    }

    [Fact]
    public void Sending_and_receiving_a_migration_stream()
    {
        var pair = new MigrationPair();
        byte[] state = new byte[Size + 4];
        pair.Source.Register("d", -1, 1, new ScriptedDevice("d", pair.Log, SaveVmHandler.SaveState) { State = state });
        pair.Target.Register("d", -1, 1, new ScriptedDevice("d", pair.Log, SaveVmHandler.LoadState) { State = state });
        pair.Succeed();
        Assert.True(pair.SourceResult!.Bytes > state.Length);
        _meter.Saw("migration-stream", "send", pair.SourceResult.Bytes);
        _meter.Saw("migration-stream", "receive", pair.TargetResult!.Bytes);
    }

    [Fact]
    public void Handing_descriptors_over()
    {
        using var memory = CprPeer.Memory(out _);
        using var source = new CprPeer();
        using var session = new CprSession();
        using var target = new CprPeer();
        source.Send(CprBytes.Header());
        source.SendEntry("an entry whose name makes the state as long as that of no other test", 0, memory);
        source.Send([0]);
        source.End();
        var entries = CprTransfers.Receive(session, source.Listener, CprListener.DefaultUsers, NullLogger.Instance);
        // Its own connection comes first.
        target.Close();
        Assert.Throws<CprException>(target.Receive);
        var sending = Waiting.OnThread(() => CprTransfers.Send(
            session, target.Path, "unix:target", entries, new CprSendOptions { WaitForTakeover = false }, _scope, NullLogger.Instance));
        using var set = target.Receive();
        var sent = sending.Result("the hand-over");
        Assert.Equal(set.ByteCount, sent.Bytes);
        _meter.Saw("cpr", "receive", sent.Bytes);
        _meter.Saw("cpr", "send", sent.Bytes);
    }

    private IReadOnlyList<VfioStateTransfer> Receive(string archive, Action<Endpoint> listening)
    {
        using var scope = Whole();
        return VfioStateReceiver.Receive(new VfioReceiveOptions
        {
            Endpoint = new Endpoint.Unix(_folder.File(Path.GetFileName(archive) + ".sock")),
            Archive = archive,
            Listening = listening,
        }, NullLogger.Instance, scope);
    }

    private static TransferScope Whole() => new(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
}
