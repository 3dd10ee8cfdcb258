using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests;

/// <summary>A real QEMU migrates into the receiver, and what was received is migrated into another real QEMU.</summary>
public sealed class MultifdTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private static string[] Machine => ["-M", "q35", "-accel", QemuProcess.Accelerator, "-m", "64", "-device", "virtio-net-pci"];

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    public static TheoryData<int, string, bool> Sources { get; } = new()
    {
        { 2, "none", false },
        { 2, "zlib", true },
        { 2, "zstd", false },
        { 4, "none", true },
        { 4, "zlib", false },
        { 4, "zstd", true },
        { 8, "none", false },
        { 8, "zlib", true },
        { 8, "zstd", false },
    };

    [Theory]
    [MemberData(nameof(Sources))]
    public void A_migration_is_received_whole_and_replayed_into_a_machine_that_then_runs(int channels, string compression, bool returnPath)
    {
        string archive = _folder.File("archive");
        using (var source = StartSource(channels, compression, returnPath))
        {
            using var receiver = Receiver.Start(NewReceipt($"unix:{_folder.File("m")}", archive));
            source.Migrate(receiver.Uri);
            Assert.Empty(receiver.Finish());
            source.WaitForMigration("completed");
        }

        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, Cancelled);
        var report = ArchiveVerifier.Test(archive, scope);
        Assert.True(report.Passed, string.Join('\n', report.Checks.AsEnumerable()));
        var index = MigrationArchive.Read(archive);
        Assert.Equal(channels, index.Channels.Count());
        Assert.Equal(compression, index.Compression, ignoreCase: true);

        using var target = StartTarget(channels, compression, $"unix:{_folder.File("t")}");
        Replay(archive, $"unix:{_folder.File("t")}");
        target.WaitForMigration("completed");
        Assert.Equal("running", target.Status);
    }

    // QEMU before 8.0 leaves the size of an earlier packet in one that has no pages.
    [Theory]
    [InlineData(2, "none")]
    [InlineData(2, "zlib")]
    [InlineData(2, "zstd")]
    [InlineData(8, "none")]
    [InlineData(8, "zlib")]
    [InlineData(8, "zstd")]
    public void A_migration_of_QEMU_7_2_is_received_tested_and_replayed(int channels, string compression)
    {
        const string Old = "qemu-system-x86_64-older";
        string[] machine = ["-M", "pc-q35-7.2", "-accel", "tcg", "-m", "64"];
        string archive = _folder.File("archive");
        using (var source = StartSource(channels, compression, returnPath: false, program: Old, machine: machine))
        {
            using var receiver = Receiver.Start(NewReceipt($"unix:{_folder.File("m")}", archive));
            source.Migrate(receiver.Uri);
            Assert.Empty(receiver.Finish());
            source.WaitForMigration("completed");
        }

        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, Cancelled);
        var report = ArchiveVerifier.Test(archive, scope);
        Assert.True(report.Passed, string.Join('\n', report.Checks.AsEnumerable()));
        var whole = MigrationStreams.Test(new MigrationStreamInput { Path = archive });
        Assert.True(whole.Passed, string.Join('\n', whole.Checks.AsEnumerable()));

        // The main stream alone is not damaged: its channels are missing.
        var main = MigrationStreams.Test(new MigrationStreamInput { Path = Path.Combine(archive, "main.stream") });
        var check = Assert.Single(main.Checks, c => !c.Passed);
        Assert.Equal("RamCoverage", check.Name);
        Assert.Contains("multifd", check.RecommendedAction);
        foreach (string program in new[] { Old, "qemu-system-x86_64" })
        {
            using var target = StartTarget(channels, compression, $"unix:{_folder.File("t" + program)}", machine, program: program, name: program);
            Replay(archive, $"unix:{_folder.File("t" + program)}");
            target.WaitForMigration("completed");
            Assert.Equal("running", target.Status);
        }
    }

    [Theory]
    [InlineData(4, 2, false)]
    [InlineData(3, 2, false)]
    [InlineData(4, 2, true)]
    [InlineData(3, 2, true)]
    public void A_target_with_fewer_channels_does_not_pass_for_success(int archived, int channels, bool tcp)
    {
        string archive = Record(archived);
        string uri = tcp ? $"tcp:127.0.0.1:{FreePort()}" : $"unix:{_folder.File("t")}";
        using var target = StartTarget(channels, "none", uri);
        var failure = Assert.Throws<MultifdException>(() => Replay(archive, uri, seconds: 4));
        Assert.Contains(failure.Reason, new[] { MultifdError.TargetDroppedChannel, MultifdError.TargetFailed });
    }

    [Fact]
    public void A_target_with_more_channels_ends_within_the_deadline()
    {
        string archive = Record(2);
        using var target = StartTarget(4, "none", $"unix:{_folder.File("t")}");
        var failure = Assert.Throws<MultifdException>(() => Replay(archive, $"unix:{_folder.File("t")}", seconds: 2));
        Assert.Equal(MultifdError.NoProgress, failure.Reason);
    }

    [Fact]
    public void A_target_of_another_machine_fails_by_name()
    {
        string archive = Record(2);
        using var target = StartTarget(2, "none", $"unix:{_folder.File("t")}", ["-M", "pc", "-accel", QemuProcess.Accelerator, "-m", "64"]);
        var failure = Assert.Throws<MultifdException>(() => Replay(archive, $"unix:{_folder.File("t")}"));
        Assert.Equal(MultifdError.TargetFailed, failure.Reason);
    }

    // QEMU answers SHUT 0 now and then although a channel's thread has refused a packet; only the channels tell.
    [Theory]
    [InlineData("qemu-system-x86_64", false)]
    [InlineData("qemu-system-x86_64", true)]
    [InlineData("qemu-system-x86_64-newer", false)]
    public void A_target_that_refuses_device_state_never_passes_for_success(string program, bool tcp)
    {
        string archive = _folder.File("archive");
        using (var source = StartSource(2, "none", returnPath: true, program: program))
        {
            using var receiver = Receiver.Start(NewReceipt($"unix:{_folder.File("m")}", archive));
            source.Migrate(receiver.Uri);
            receiver.Finish();
        }

        // A packet of a device that takes none: every QEMU refuses it, as one does whose VFIO device has multifd off.
        byte[] packet = new byte[DeviceStatePacket.Size + 100];
        DeviceStatePacket.Write(packet, "ram", 0, 100);
        new PacketHeader(PacketFlags.DeviceState).Write(packet);
        string channel = Path.Combine(archive, MigrationArchive.ChannelName(1));
        using (var file = new FileStream(channel, FileMode.Append))
        {
            file.Write(packet);
        }

        string index = Path.Combine(archive, MigrationArchive.IndexName);
        var json = JsonNode.Parse(File.ReadAllText(index))!;
        json["streams"]!.AsArray().Single(s => (int?)s!["channel"] == 1)!["bytes"] = new FileInfo(channel).Length;
        File.WriteAllText(index, json.ToJsonString());
        for (int i = 0; i < 8; i++)
        {
            string uri = tcp ? $"tcp:127.0.0.1:{FreePort()}" : $"unix:{_folder.File("t" + i)}";
            using var target = StartTarget(2, "none", uri, program: program, name: "dst" + i);
            Assert.Equal(MultifdError.TargetFailed, Assert.Throws<MultifdException>(() => Replay(archive, uri)).Reason);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Device_state_without_its_machine_is_refused_before_a_QEMU_has_got_a_byte(bool tcp)
    {
        string uri = tcp ? $"tcp:127.0.0.1:{FreePort()}" : $"unix:{_folder.File("t")}";
        using var target = StartTarget(2, "none", uri);
        using var device = new EmptyDevice();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, Cancelled);
        var failure = Assert.Throws<MultifdException>(() => VfioStateSender.Send([device], new VfioSendOptions { Endpoint = Endpoint.Parse(uri) }, scope));
        Assert.Equal(MultifdError.TargetTakesWholeMigrations, failure.Reason);
        Assert.Contains("qemu-system-x86", failure.Message);
        Assert.Contains("archive", failure.RecommendedAction);
        Assert.False(device.WasAsked);
    }

    [Theory]
    [InlineData("qemu-system-x86_64", false, false)]
    [InlineData("qemu-system-x86_64", true, true)]
    [InlineData("qemu-system-x86_64-newer", false, false)]
    [InlineData("qemu-system-x86_64-newer", true, true)]
    public void A_source_completes_with_and_without_switchover_ack(string program, bool atSource, bool here)
    {
        using var source = StartSource(2, "none", returnPath: true, program: program);
        source.SetCapability("switchover-ack", atSource);
        using var receiver = Receiver.Start(NewReceipt("tcp:127.0.0.1:0", _folder.File("archive"), here));
        source.Migrate(receiver.Uri);
        receiver.Finish();
        source.WaitForMigration("completed");
        Assert.Equal("postmigrate", source.Status);
    }

    // libvirt turns the capability on by itself.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_source_that_waits_for_an_acknowledgement_that_never_comes_is_noticed(bool multifd)
    {
        using var source = StartSource(2, "none", returnPath: true);
        source.SetCapability("multifd", multifd);
        source.SetCapability("switchover-ack");
        bool noticed = false;
        var receipt = NewReceipt($"unix:{_folder.File("m")}", _folder.File("archive"));
        using var receiver = Receiver.Start(receipt with { Receive = receipt.Receive with { SourceWaits = () => Volatile.Write(ref noticed, true) } });
        source.Migrate(receiver.Uri);
        source.WaitUntil(() => Volatile.Read(ref noticed), "the receiver notices that the source waits");
        Assert.Equal(("active", "running"), (source.MigrationStatus, source.Status));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_source_that_fails_at_an_acknowledgement_keeps_its_guest_and_leaves_no_archive(bool tcp)
    {
        string archive = _folder.File("archive");
        using var source = StartSource(2, "none", returnPath: true, program: "qemu-system-x86_64-newer");
        var receipt = NewReceipt(tcp ? "tcp:127.0.0.1:0" : $"unix:{_folder.File("m")}", archive, switchoverAck: true);
        using var receiver = Receiver.Start(receipt with { Receive = receipt.Receive with { SwitchoverAckCount = SwitchoverAckCount.Once } });
        source.Migrate(receiver.Uri);
        var failure = Assert.ThrowsAny<MigrationOpsException>(receiver.Finish);
        Assert.True(failure is MultifdException { Reason: MultifdError.SourceFailed } or StreamException { Reason: StreamError.Truncated }
            or WireException { Reason: WireError.Disconnected }, failure.ToString());
        source.WaitUntil(() => source.MigrationStatus == "failed", "the source has failed");
        Assert.Equal("running", source.Status);
        Assert.False(Directory.Exists(archive));
    }

    [Theory]
    [InlineData(4)]
    [InlineData(2)]
    public void A_migration_with_TLS_is_received_and_replayed_with_TLS(int channels)
    {
        using var authority = new TestCertificates();
        string credentials = authority.WriteBoth(_folder.File("pki"));
        var security = new TransportSecurity(credentials);
        string archive = _folder.File("archive");
        using (var source = StartSource(channels, "none", returnPath: true, Credentials(credentials, "client")))
        {
            using var receiver = Receiver.Start(NewReceipt("tcp:127.0.0.1:0", archive) with { Security = security });
            source.SetParameters(new JsonObject { ["tls-creds"] = "tls0" });
            source.Migrate(receiver.Uri);
            receiver.Finish();
            source.WaitForMigration("completed");
        }

        string uri = $"tcp:127.0.0.1:{FreePort()}";
        using var target = QemuProcess.Start(_folder, "dst", [.. Machine, "-incoming", "defer", .. Credentials(credentials, "server")]);
        Configure(target, channels, "none");
        target.SetParameters(new JsonObject { ["tls-creds"] = "tls0" });
        target.Command("migrate-incoming", new JsonObject { ["uri"] = uri });
        Replay(archive, uri, security);
        target.WaitForMigration("completed");
        Assert.Equal("running", target.Status);
    }

    // A source without return-path closes with our session tickets unread if it is sent any; the reset took the tail of its channels,
    // with multifd nearly every time.
    [Theory]
    [InlineData("qemu-system-x86_64")]
    [InlineData("qemu-system-x86_64-newer")]
    public void A_TLS_source_without_return_path_is_received_to_its_last_byte_every_time(string program)
    {
        using var authority = new TestCertificates();
        string credentials = authority.WriteBoth(_folder.File("pki"));
        for (int i = 0; i < 6; i++)
        {
            using var source = StartSource(4, "none", returnPath: false, Credentials(credentials, "client"), program);
            source.SetCapability("multifd", i % 3 > 0);
            using var receiver = Receiver.Start(
                NewReceipt("tcp:127.0.0.1:0", _folder.File("archive" + i)) with { Security = new TransportSecurity(credentials) });
            source.SetParameters(new JsonObject { ["tls-creds"] = "tls0" });
            source.Migrate(receiver.Uri);
            Assert.Empty(receiver.Finish());
            source.WaitForMigration("completed");
            Assert.Equal("postmigrate", source.Status);
        }
    }

    [Fact]
    public void A_source_with_a_certificate_of_another_authority_is_refused_as_that()
    {
        using var ours = new TestCertificates();
        using var theirs = new TestCertificates("Another authority");
        string credentials = ours.WriteBoth(_folder.File("pki"));
        string foreign = theirs.WriteBoth(_folder.File("foreign"));
        File.Copy(Path.Combine(credentials, "ca-cert.pem"), Path.Combine(foreign, "ca-cert.pem"), overwrite: true);
        using var source = StartSource(2, "none", returnPath: false, Credentials(foreign, "client", ",sanity-check=no"));
        using var receiver = Receiver.Start(
            NewReceipt("tcp:127.0.0.1:0", _folder.File("archive")) with { Security = new TransportSecurity(credentials) }, limit: Brief);
        source.SetParameters(new JsonObject { ["tls-creds"] = "tls0" });
        source.Migrate(receiver.Uri);
        var failure = Assert.Throws<WireException>(receiver.Finish);
        Assert.Equal(WireError.TlsFailed, failure.Reason);
        Assert.Contains("Test client", failure.Message);
    }

    [Fact]
    public void A_source_without_TLS_is_told_from_one_that_breaks_the_protocol()
    {
        using var authority = new TestCertificates();
        string credentials = authority.WriteBoth(_folder.File("pki"));
        using var source = StartSource(2, "none", returnPath: false);
        using var receiver = Receiver.Start(
            NewReceipt("tcp:127.0.0.1:0", _folder.File("archive")) with { Security = new TransportSecurity(credentials) }, limit: Brief);
        source.Migrate(receiver.Uri);
        Assert.Equal(WireError.TlsFailed, Assert.Throws<WireException>(receiver.Finish).Reason);
    }

    [Fact]
    public void Missing_credentials_are_found_before_the_port_is_open()
    {
        using var receiver = Receiver.Start(
            NewReceipt("tcp:127.0.0.1:0", _folder.File("archive")) with { Security = new TransportSecurity(_folder.File("none")) });
        Assert.Equal(WireError.TlsFailed, Assert.Throws<WireException>(receiver.Finish).Reason);
        Assert.Equal("", receiver.Uri);
        Assert.Empty(Directory.GetFileSystemEntries(_folder.Path));
    }

    [Fact]
    public void A_source_that_is_killed_leaves_a_named_error_and_nothing_else()
    {
        string uri;
        using (var source = StartSource(4, "none", returnPath: true))
        {
            // Slow enough that it is killed in the middle, whatever the machine.
            source.SetParameters(new JsonObject { ["max-bandwidth"] = 100_000 });
            using var receiver = Receiver.Start(NewReceipt("tcp:127.0.0.1:0", _folder.File("archive")) with { Destination = _folder.Path });
            uri = receiver.Uri;
            source.Migrate(uri);
            source.WaitUntil(() => receiver.Moved > 20_000, "the migration is under way");
            Assert.NotEqual(0, OwnSockets.CountAtPort(uri));
            source.Kill();
            var failure = Assert.ThrowsAny<MigrationOpsException>(receiver.Finish);
            Assert.True(failure is MultifdException or StreamException { Reason: StreamError.Truncated } or WireException { Reason: WireError.Disconnected }, failure.ToString());
        }

        Assert.DoesNotContain(Directory.GetFileSystemEntries(_folder.Path), e => !e.EndsWith(".qmp", StringComparison.Ordinal));
        Assert.Equal(0, OwnSockets.CountAtPort(uri));
    }

    [Fact]
    public void A_receiver_that_is_cancelled_ends_at_once_and_leaves_nothing()
    {
        using var cancel = new CancellationTokenSource();
        using var source = StartSource(2, "none", returnPath: false);
        source.SetParameters(new JsonObject { ["max-bandwidth"] = 100_000 });
        using var receiver = Receiver.Start(NewReceipt($"unix:{_folder.File("m")}", _folder.File("archive")), cancel.Token);
        source.Migrate(receiver.Uri);
        source.WaitUntil(() => receiver.Moved > 20_000, "the migration is under way");
        var clock = System.Diagnostics.Stopwatch.StartNew();
        cancel.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(receiver.Finish);
        Assert.InRange(clock.Elapsed.TotalSeconds, 0, 40);
        Assert.DoesNotContain(Directory.GetFileSystemEntries(_folder.Path), e => !e.EndsWith(".qmp", StringComparison.Ordinal));
    }

    private string Record(int channels)
    {
        string archive = _folder.File("archive");
        using var source = StartSource(channels, "none", returnPath: true);
        using var receiver = Receiver.Start(NewReceipt($"unix:{_folder.File("m")}", archive));
        source.Migrate(receiver.Uri);
        receiver.Finish();
        return archive;
    }

    private static VfioReceiveOptions NewReceipt(string uri, string archive, bool switchoverAck = false) => new()
    {
        Endpoint = Endpoint.Parse(uri),
        Archive = archive,
        Receive = new ReceiveOptions { SwitchoverAck = switchoverAck },
    };

    // A failed handshake does not end a receipt; it ends for lack of a source.
    private static readonly TimeSpan Brief = TimeSpan.FromSeconds(4);

    private static string[] Credentials(string folder, string endpoint, string more = "")
        => ["-object", $"tls-creds-x509,id=tls0,dir={folder},endpoint={endpoint},verify-peer=yes{more}"];

    private QemuProcess StartSource(int channels, string compression, bool returnPath, string[]? more = null, string program = "qemu-system-x86_64",
        string[]? machine = null)
    {
        var source = QemuProcess.Start(_folder, "src", [.. machine ?? Machine, .. more ?? []], program: program);
        Configure(source, channels, compression);
        source.SetCapability("return-path", returnPath);
        source.SetParameters(new JsonObject { ["max-bandwidth"] = 0x7fffffffffff });
        return source;
    }

    private QemuProcess StartTarget(int channels, string compression, string uri, string[]? machine = null,
        string program = "qemu-system-x86_64", string name = "dst")
    {
        var target = QemuProcess.Start(_folder, name, [.. machine ?? Machine, "-incoming", "defer"], program: program);
        Configure(target, channels, compression);
        target.Command("migrate-incoming", new JsonObject { ["uri"] = uri });
        return target;
    }

    // QEMU takes no port 0 for a migration; a port that was free a moment ago is the best there is.
    private static int FreePort()
    {
        using var probe = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        probe.Start();
        return ((System.Net.IPEndPoint)probe.LocalEndpoint).Port;
    }

    private static void Configure(QemuProcess qemu, int channels, string compression)
    {
        qemu.SetCapability("multifd");
        qemu.SetParameters(new JsonObject { ["multifd-channels"] = channels, ["multifd-compression"] = compression });
    }

    private static void Replay(string archive, string uri, TransportSecurity? security = null, int seconds = 20)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(seconds), ProgressRule.WholeTransfer, Cancelled);
        ArchiveReplay.Send(archive, Endpoint.Parse(uri), security ?? TransportSecurity.Default, verified: false, scope);
    }

    /// <summary>A device without state that tells whether its state was asked for.</summary>
    private sealed class EmptyDevice : IDeviceStateSource
    {
        public string IdStr => "0000:00:04.0/vfio";

        public uint InstanceId => 0;

        public string? Path => null;

        public string? Sha256 => null;

        internal bool WasAsked { get; private set; }

        public byte[] WriteTo(Stream target)
        {
            WasAsked = true;
            return [];
        }

        public void Dispose()
        {
        }
    }

    /// <summary>A receipt on a thread of its own.</summary>
    private sealed class Receiver : IDisposable
    {
        private readonly CancellationTokenSource _cancel;
        private readonly ManualResetEventSlim _listening = new();
        private Task<IReadOnlyList<VfioStateTransfer>>? _task;
        private long _moved;

        private Receiver(CancellationToken cancelled) => _cancel = CancellationTokenSource.CreateLinkedTokenSource(cancelled);

        internal string Uri { get; private set; } = "";

        internal long Moved => Interlocked.Read(ref _moved);

        internal static Receiver Start(VfioReceiveOptions options, CancellationToken? cancelled = null, TimeSpan? limit = null)
        {
            var receiver = new Receiver(cancelled ?? Cancelled);
            receiver._task = Task.Factory.StartNew(() => receiver.Receive(options with
            {
                Listening = endpoint =>
                {
                    receiver.Uri = endpoint.ToString();
                    receiver._listening.Set();
                },
            }, limit ?? TimeSpan.FromSeconds(60)), TaskCreationOptions.LongRunning);
            receiver._task.ContinueWith(_ => receiver._listening.Set(), TaskScheduler.Default);
            receiver._listening.Wait(Cancelled);
            return receiver;
        }

        private IReadOnlyList<VfioStateTransfer> Receive(VfioReceiveOptions options, TimeSpan limit)
        {
            using var scope = new TransferScope(limit, ProgressRule.WholeTransfer, _cancel.Token)
            {
                Progress = bytes => Interlocked.Exchange(ref _moved, bytes),
            };
            return VfioStateReceiver.Receive(options, NullLogger.Instance, scope);
        }

        internal IReadOnlyList<VfioStateTransfer> Finish() => _task!.GetAwaiter().GetResult();

        public void Dispose()
        {
            _cancel.Cancel();
            ((IAsyncResult)_task!).AsyncWaitHandle.WaitOne();
            _cancel.Dispose();
        }
    }
}
