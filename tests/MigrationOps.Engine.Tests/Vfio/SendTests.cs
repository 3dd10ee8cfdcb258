using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vfio;

public sealed class SendTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly TransferScope _scope = new(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData(1, 1024 * 1024, false)]
    [InlineData(4, 4096, true)]
    [InlineData(8, 100_000, false)]
    [InlineData(2, 3_000_000, true)]
    [InlineData(120, 4096, false)]
    public void What_is_sent_over_channels_is_received_byte_for_byte(int channels, int packetSize, bool tcp)
    {
        string[] files = [SaveState("a", 5_000_001, 1), SaveState("b", 0, 2), SaveState("c", 300_000, 3)];
        string destination = Directory.CreateDirectory(_folder.File("received")).FullName;
        var (sent, received) = Transfer(files, tcp ? "tcp:127.0.0.1:0" : "unix:" + _folder.File("s"), destination, channels, packetSize);
        Assert.Equal(["a/vfio", "b/vfio", "c/vfio"], received.Select(r => r.IdStr));
        foreach (var (from, to) in sent.Zip(received))
        {
            Assert.Equal(from.Sha256, to.Sha256);
            Assert.Equal((from.Bytes, from.Packets, from.ConfigBytes), (to.Bytes, to.Packets, to.ConfigBytes));
            using var source = new StateFileSource(to.Path!, _scope);
            Assert.Equal(from.Sha256, source.Sha256);
        }

        Assert.Equal(received.Count * 2, Directory.GetFiles(destination).Length);
    }

    [Fact]
    public void What_is_sent_with_TLS_is_received_byte_for_byte()
    {
        using var authority = new TestCertificates();
        var security = new TransportSecurity(authority.WriteBoth(_folder.File("pki")));
        var (sent, received) = Transfer([SaveState("a", 5_000_001, 1)], "tcp:127.0.0.1:0", null, 4, 1024 * 1024, _folder.File("archive"), security);
        Assert.Equal(Assert.Single(sent).Sha256, Assert.Single(received).Sha256);
    }

    [Fact]
    public void Nothing_stays_open_after_a_transfer()
    {
        string file = SaveState("a", 2_000_000, 1);
        Transfer([file], "unix:" + _folder.File("s"), null, 4, 65536, _folder.File("archive"));
        Assert.Equal(0, Sockets());
        Assert.False(File.Exists(_folder.File("s")));

        // Other tests run beside this one, but not on sockets of its folder.
        int Sockets() => File.ReadLines("/proc/net/unix").Count(line => line.Contains(_folder.Path, StringComparison.Ordinal));
    }

    [Fact]
    public void A_receiver_that_cannot_store_the_state_is_a_failure_of_the_sender_too()
    {
        string file = SaveState("a", 5_000_000, 1);
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, Cancelled);
        using var listener = Transport.Listen(new Endpoint.Unix(_folder.File("s")), TransportSecurity.Default, scope);
        var receiver = Task.Run(() =>
        {
            using var devices = new DeviceStateReceiver(new ReassemblyOptions(), (_, _) => new FullSink(), scope.CancellationToken);
            return Record.Exception(() => MigrationReceiver.Receive(listener, new ReceiveOptions(), devices, null, scope));
        });
        using var source = new StateFileSource(file, _scope);
        var failure = Assert.Throws<MultifdException>(() => Send(
            [source], new VfioSendOptions { Endpoint = listener.Endpoint }));
        Assert.Equal(MultifdError.TargetFailed, failure.Reason);
        Assert.IsType<InvalidOperationException>(receiver.Outcome());
    }

    [Fact]
    public void A_failed_receipt_leaves_the_previous_file_and_nothing_else()
    {
        string destination = Directory.CreateDirectory(_folder.File("received")).FullName;
        string previous = Path.Combine(destination, "a-vfio.state");
        File.WriteAllText(previous, "as it was");
        using var cancel = new CancellationTokenSource();
        var listening = new TaskCompletionSource<Endpoint>();
        var receiver = Task.Run(() => Record.Exception(() => Receive(new VfioReceiveOptions
        {
            Endpoint = new Endpoint.Unix(_folder.File("s")),
            Destination = destination,
            Archive = _folder.File("archive"),
            Listening = listening.SetResult,
        }, cancel.Token)));
        using (var half = Transport.Connect(listening.Outcome(), TransportSecurity.Default, _scope))
        {
            half.Write([0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3, 1, 0, 0]);
        }

        Assert.Equal(StreamError.Truncated, Assert.IsType<StreamException>(receiver.Outcome()).Reason);
        Assert.Equal("as it was", File.ReadAllText(previous));
        Assert.Equal([destination], Directory.GetFileSystemEntries(_folder.Path));
        Assert.Single(Directory.GetFileSystemEntries(destination));
    }

    [Fact]
    public void An_archive_that_was_altered_is_found_before_anything_is_sent()
    {
        string file = SaveState("a", 2_000_000, 1);
        string archive = _folder.File("archive");
        Transfer([file], "unix:" + _folder.File("s"), null, 2, 65536, archive);
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, Cancelled);
        Assert.True(ArchiveVerifier.Test(archive, scope).Passed);

        foreach (string name in new[] { "main.stream", "channel-0.stream", "channel-1.stream" })
        {
            string path = Path.Combine(archive, name);
            byte[] bytes = File.ReadAllBytes(path);
            bytes[bytes.Length / 2] ^= 1;
            File.WriteAllBytes(path, bytes);
            Assert.False(ArchiveVerifier.Test(archive, scope).Passed);
            bytes[bytes.Length / 2] ^= 1;
            File.WriteAllBytes(path, bytes[..^1]);
            Assert.False(ArchiveVerifier.Test(archive, scope).Passed);
            File.WriteAllBytes(path, bytes);
        }

        Assert.True(ArchiveVerifier.Test(archive, scope).Passed);
        File.Delete(Path.Combine(archive, "channel-1.stream"));
        Assert.Equal(MultifdError.ArchiveInvalid, Assert.Throws<MultifdException>(() => ArchiveVerifier.Verify(archive, scope)).Reason);
    }

    [Fact]
    public void An_archive_is_never_written_over_another()
    {
        string archive = Directory.CreateDirectory(_folder.File("archive")).FullName;
        File.WriteAllText(Path.Combine(archive, "index.json"), "{}");
        Assert.Equal(MultifdError.ArchiveExists, Assert.Throws<MultifdException>(() => new ArchiveWriter(archive)).Reason);
    }

    [Fact]
    public void A_migration_of_a_device_can_be_loaded_into_another_as_it_comes()
    {
        byte[] state = new byte[4_000_000];
        new Random(7).NextBytes(state);
        var taking = new FakeVfioDriver(VfioMigrationFlags.StopCopy);
        using var from = new VfioDevice(new FakeVfioDriver(VfioMigrationFlags.StopCopy, state));
        using var to = new VfioDevice(taking);
        var listening = new TaskCompletionSource<Endpoint>();
        var receiver = Task.Run(() => Receive(new VfioReceiveOptions
        {
            Endpoint = new Endpoint.Unix(_folder.File("s")),
            Device = to,
            Listening = listening.SetResult,
        }, Cancelled));
        var endpoint = listening.Outcome();
        using var source = new DeviceSource(from, "0000:00:04.0/vfio", _scope);
        var sent = Assert.Single(Send([source], new VfioSendOptions { Endpoint = endpoint }));
        var received = Assert.Single(receiver.Outcome());
        Assert.Equal(state, taking.State);
        Assert.Equal(sent.Sha256, received.Sha256);
        Assert.Equal(VfioState.Running, to.State);
        Assert.Equal(VfioState.Stop, from.State);
    }

    private static IReadOnlyList<VfioStateTransfer> Receive(VfioReceiveOptions options, CancellationToken cancelled)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, cancelled);
        return VfioStateReceiver.Receive(options, NullLogger.Instance, scope);
    }

    private static IReadOnlyList<VfioStateTransfer> Send(IReadOnlyList<IDeviceStateSource> sources, VfioSendOptions options)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, Cancelled);
        return VfioStateSender.Send(sources, options, scope);
    }

    private (IReadOnlyList<VfioStateTransfer> Sent, IReadOnlyList<VfioStateTransfer> Received) Transfer(
        string[] files, string uri, string? destination, int channels, int packetSize, string? archive = null,
        TransportSecurity? security = null)
    {
        var listening = new TaskCompletionSource<Endpoint>();
        var receiver = Task.Run(() => Receive(new VfioReceiveOptions
        {
            Endpoint = Endpoint.Parse(uri),
            Security = security ?? TransportSecurity.Default,
            Destination = destination,
            Archive = archive,
            Listening = listening.SetResult,
        }, Cancelled));
        var endpoint = listening.Outcome();
        StateFileSource[] sources = [.. files.Select(f => new StateFileSource(f, _scope))];
        try
        {
            var sent = Send(sources,
                new VfioSendOptions
                {
                    Endpoint = endpoint,
                    Security = security ?? TransportSecurity.Default,
                    Channels = channels,
                    PacketSize = packetSize,
                });
            return (sent, receiver.Outcome());
        }
        finally
        {
            Array.ForEach(sources, s => s.Dispose());
        }
    }

    private string SaveState(string name, int length, int seed)
    {
        byte[] state = new byte[length];
        new Random(seed).NextBytes(state);
        string path = _folder.File(name + ".state");
        using var device = new VfioDevice(new FakeVfioDriver(VfioMigrationFlags.StopCopy, state));
        VfioStateStore.Save(device, path, name + "/vfio", VfioStateFormat.StateFile, _scope);
        return path;
    }

    private sealed class FullSink : IDeviceStateSink
    {
        public void Write(ReadOnlySpan<byte> data) => throw new InvalidOperationException("full");

        public void Complete(ReadOnlySpan<byte> config)
        {
        }

        public void Dispose()
        {
        }
    }
}
