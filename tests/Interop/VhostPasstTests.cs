using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests;

public sealed class VhostPasstTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly List<PeerProcess> _started = [];

    public void Dispose()
    {
        _started.ForEach(peer => peer.Dispose());
        _folder.Dispose();
    }

    [Fact]
    public void A_passt_that_is_saved_ends_afterwards_and_that_is_a_success()
    {
        var (peer, socket) = Start("p");
        var saved = Conversation.Save(socket, _folder.File("f"));
        Assert.Equal((62L, true), (saved.Bytes, saved.Checked));
        Assert.Equal(0, peer.WaitForExit());
        Assert.True(Verify(_folder.File("f")));
        Assert.Equal(["LOG_SHMFD", "RARP", "REPLY_ACK", "DEVICE_STATE"], StateManifest.Read(_folder.File("f")).ProtocolFeatures);
    }

    [Fact]
    public void What_was_saved_goes_into_a_fresh_passt_and_comes_out_the_same()
    {
        var (_, first) = Start("p");
        var saved = Conversation.Save(first, _folder.File("f"));
        var (second, socket) = Start("q");
        Assert.Equal(saved.Sha256, Conversation.Load(socket, _folder.File("f")).Sha256);
        Assert.False(second.HasExited);

        // It lives on after a load, and serves the next front-end.
        Assert.Equal(saved.Sha256, Conversation.Save(socket, _folder.File("g")).Sha256);
        Assert.Equal(0, second.WaitForExit());
    }

    [Fact]
    public void A_captured_state_of_passt_is_accepted()
    {
        var (peer, socket) = Start("p");
        File.Copy(Conversation.Vector("passt.state.bin"), _folder.File("raw"));
        Assert.Equal(62, Conversation.Load(socket, _folder.File("raw"), raw: true).Bytes);
        Assert.False(peer.HasExited);
    }

    [Theory]
    [InlineData(10, "errno 61")]
    [InlineData(61, "errno 61")]
    [InlineData(-1, "errno 22")]
    public void A_truncated_state_and_garbage_are_refused_at_the_check_with_the_reason_of_passt(int length, string reason)
    {
        byte[] state = File.ReadAllBytes(Conversation.Vector("passt.state.bin"));
        File.WriteAllBytes(_folder.File("raw"), length < 0 ? new byte[62] : state[..length]);
        var (peer, socket) = Start("p");
        var e = Assert.Throws<VhostException>(() => Conversation.Load(socket, _folder.File("raw"), raw: true));
        Assert.Equal(VhostError.CheckFailed, e.Reason);
        Assert.Contains(reason, e.Message);
        Assert.False(peer.HasExited);
    }

    [Fact]
    public void A_check_without_a_transfer_is_refused_by_us_and_fails_at_the_real_one()
    {
        var (_, socket) = Start("p");
        using (var scope = new TransferScope(TimeSpan.FromSeconds(60)))
        using (var frontend = VhostFrontend.Connect(socket, scope))
        {
            frontend.Negotiate();
            Assert.Equal(VhostError.OutOfOrder, Assert.Throws<VhostException>(frontend.CheckDeviceState).Reason);
        }

        var (_, other) = Start("q");
        Assert.Equal(ulong.MaxValue, Conversation.AskAtOnce(other, VhostUserRequest.CheckDeviceState));
    }

    [Fact]
    public void A_passt_that_is_killed_before_the_check_leaves_an_error_and_no_file()
    {
        var (peer, socket) = Start("p");
        var kill = new AtLine("> SET_PROTOCOL_FEATURES", () =>
        {
            Conversation.Signal(peer.Id, Conversation.Stop);
            peer.Kill();
        });
        var e = Assert.Throws<VhostException>(() => Conversation.Save(socket, _folder.File("f"), logger: kill));
        Assert.True(kill.Reached);
        Assert.Equal(VhostError.Disconnected, e.Reason);
        Assert.False(File.Exists(_folder.File("f")));
    }

    [Fact]
    public void Its_state_in_a_migration_stream_is_found_tested_exported_and_taken_by_a_fresh_passt()
    {
        var (_, socket) = Start("p");
        using var qemu = QemuProcess.Start(_folder, "qemu", ["-M", "q35,memory-backend=m0", "-accel", "tcg", "-m", "32", "-S",
            "-object", "memory-backend-memfd,id=m0,size=32M,share=on", "-chardev", $"socket,id=c,path={socket}",
            "-netdev", "vhost-user,id=n,chardev=c", "-device", "virtio-net-pci,netdev=n"]);
        qemu.SetCapability("x-ignore-shared");
        string stream = _folder.File("vm.stream");
        qemu.Migrate($"file:{stream}");
        qemu.WaitForMigration("completed");
        var input = new MigrationStreamInput { Path = stream };
        var report = MigrationStreams.Test(input);
        Assert.True(report.Passed, string.Join('\n', report.Checks.Select(c => $"{c.Name} {c.Detail}")));
        Assert.Contains(report.Checks, c => c.Name == "BackendState" && c.Detail.Contains("62 bytes", StringComparison.Ordinal));
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var export = StreamExporter.Export(new StreamExportOptions { Input = input, Device = "*virtio-net", Destination = _folder.File("passt.state") }, scope)[0];
        Assert.Equal(("vhost-user", 62L), (export.Kind, export.Bytes));
        var (second, other) = Start("q");
        Assert.Equal(export.Sha256, Conversation.Load(other, export.Path).Sha256);
        Assert.False(second.HasExited);
    }

    private static bool Verify(string path)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        return StateFile.Verify(path, DeviceStateKind.VhostUser, raw: false, requireManifest: true, scope).Report.Passed;
    }

    private (PeerProcess Peer, string Socket) Start(string name)
    {
        string socket = _folder.File(name);
        var peer = new PeerProcess(Peers.Require("passt"), "--vhost-user", "-s", socket, "-f");
        _started.Add(peer);
        peer.WaitForSocket(socket);
        return (peer, socket);
    }
}
