using System.IO.Pipes;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests;

public sealed class VhostVirtiofsdTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly List<PeerProcess> _started = [];

    public VhostVirtiofsdTests()
    {
        // What the captured state names must be there when it is loaded.
        Directory.CreateDirectory(_folder.File("shared/dir/sub"));
        Directory.CreateDirectory(_folder.File("shared/newdir"));
        foreach (string file in new[] { "a.txt", "log.txt", "dir/c.txt", "dir/sub/b.txt" })
        {
            File.WriteAllText(_folder.File("shared/" + file), file);
        }
    }

    public void Dispose()
    {
        _started.ForEach(peer => peer.Dispose());
        _folder.Dispose();
    }

    [Fact]
    public void An_unused_virtiofsd_is_saved_and_ends_with_success_when_its_front_end_leaves()
    {
        var (peer, socket) = Start("s");
        var saved = Conversation.Save(socket, _folder.File("f"));
        Assert.Equal(10, saved.Bytes);
        Assert.True(saved.Checked);
        Assert.Contains("virtiofsd", saved.Device + StateManifest.Read(_folder.File("f")).Device + peer.Output);
        Assert.Contains("DEVICE_STATE", StateManifest.Read(_folder.File("f")).ProtocolFeatures);
        Assert.Equal(0, peer.WaitForExit());
    }

    [Fact]
    public void A_state_of_open_files_survives_restore_and_save_in_fresh_back_ends()
    {
        byte[] captured = File.ReadAllBytes(Conversation.Vector("virtiofsd-paths.state.bin"));
        File.WriteAllBytes(_folder.File("raw"), captured);
        var (first, socket) = Start("a");
        var loaded = Conversation.Load(socket, _folder.File("raw"), raw: true);
        Assert.Equal((108L, true), (loaded.Bytes, loaded.Checked));
        Assert.Equal(0, first.WaitForExit());

        // A back-end ends with its front-end, so the state is taken out by the front-end that put it in.
        string state = LoadAndSave("b", captured);
        var verified = Verify(state);
        Assert.Equal(loaded.Sha256, verified);

        // From its container into a fresh one, and out again.
        var (_, next) = Start("c");
        Assert.Equal(verified, Conversation.Load(next, state).Sha256);
        string again = LoadAndSave("d", captured);
        Assert.Equal(verified, Verify(again));
    }

    [Theory]
    [InlineData("> SET_PROTOCOL_FEATURES", VhostError.Disconnected, "SET_DEVICE_STATE_FD")]
    [InlineData("> SET_DEVICE_STATE_FD", VhostError.Disconnected, "SET_DEVICE_STATE_FD")]
    [InlineData("- transfer ended", VhostError.Disconnected, "CHECK_DEVICE_STATE")]
    public void A_virtiofsd_that_is_killed_in_the_middle_of_a_save_leaves_an_error_and_no_file(string line, VhostError reason, string pending)
    {
        var (peer, socket) = Start("s");

        // Stopped first: it must not answer between the message and its death.
        var kill = new AtLine(line, () =>
        {
            Conversation.Signal(peer.Id, Conversation.Stop);
            Conversation.Signal(peer.Id, Conversation.Kill);
            peer.WaitForExit();
        });
        var e = Assert.Throws<VhostException>(() => Conversation.Save(socket, _folder.File("f"), logger: kill));
        Assert.True(kill.Reached);
        Assert.Equal(reason, e.Reason);
        Assert.Contains(pending, e.Message + string.Join('\n', e.Transcript));
        Assert.False(File.Exists(_folder.File("f")));
        Assert.DoesNotContain(Directory.GetFiles(_folder.Path), file => file.EndsWith(".part", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_virtiofsd_that_is_killed_in_the_middle_of_a_load_leaves_an_error()
    {
        var (peer, socket) = Start("s");
        byte[] captured = File.ReadAllBytes(Conversation.Vector("virtiofsd-paths.state.bin"));
        using var source = new AnonymousPipeServerStream(PipeDirection.Out, HandleInheritability.None);
        source.Write(captured.AsSpan(0, 50));
        using var halfway = new ManualResetEventSlim();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var options = new VhostTransferOptions
        {
            SocketPath = socket,
            Endpoint = Conversation.DescriptorOf(source.ClientSafePipeHandle),
            Raw = true,
            Progress = (bytes, _) => halfway.Set(),
        };
        var load = Task.Factory.StartNew(() => Record.Exception(() => VhostStateLoader.Load(options, scope)),
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        Assert.True(halfway.Wait(TimeSpan.FromSeconds(60)), peer.Output);
        Conversation.Signal(peer.Id, Conversation.Stop);
        peer.Kill();
        source.Write(captured.AsSpan(50));
        source.Dispose();
        var e = Assert.IsType<VhostException>(await load.WaitAsync(TimeSpan.FromSeconds(60)));
        Assert.Equal(VhostError.Disconnected, e.Reason);
    }

    [Fact]
    public void A_check_without_a_transfer_is_refused_by_us_and_fails_at_the_real_one()
    {
        var (_, socket) = Start("s");
        using (var scope = new TransferScope(TimeSpan.FromSeconds(60)))
        using (var frontend = VhostFrontend.Connect(socket, scope))
        {
            frontend.Negotiate();
            Assert.Equal(VhostError.OutOfOrder, Assert.Throws<VhostException>(frontend.CheckDeviceState).Reason);
        }

        var (peer, other) = Start("t");
        Assert.Equal(1UL, Conversation.AskAtOnce(other, VhostUserRequest.CheckDeviceState));
        peer.WaitUntil(() => peer.Output.Contains("no migration has been done", StringComparison.Ordinal), "the complaint", 10);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(50)]
    [InlineData(107)]
    public void A_truncated_state_is_refused_at_the_check_and_reported_as_such(int length)
        => AssertRefusedAtCheck(File.ReadAllBytes(Conversation.Vector("virtiofsd-paths.state.bin"))[..length]);

    [Fact]
    public void A_state_of_garbage_is_refused_at_the_check_and_reported_as_such()
    {
        byte[] garbage = new byte[5000];
        new Random(5).NextBytes(garbage);
        AssertRefusedAtCheck([0xff, 0xff, .. garbage]);
    }

    [Fact]
    public void A_state_that_names_a_file_that_is_not_there_is_refused_at_the_check()
    {
        File.Delete(_folder.File("shared/a.txt"));
        AssertRefusedAtCheck(File.ReadAllBytes(Conversation.Vector("virtiofsd-paths.state.bin")));
    }

    [Fact]
    public async Task A_state_goes_from_one_virtiofsd_to_another_over_a_socket()
    {
        var (_, a) = Start("a");
        var (_, b) = Start("b");
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var ready = new ManualResetEventSlim();
        var listen = Endpoint.Parse("unix:" + _folder.File("link"));
        var load = Task.Factory.StartNew(
            () => VhostStateLoader.Load(new VhostTransferOptions { SocketPath = b, Endpoint = listen }, scope, listening: _ => ready.Set()),
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        Assert.True(ready.Wait(TimeSpan.FromSeconds(60)) || load.IsFaulted);
        var saved = VhostStateSaver.Save(new VhostTransferOptions { SocketPath = a, Endpoint = listen }, scope);
        var loaded = await load.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Equal((10L, saved.Sha256), (loaded.Bytes, loaded.Sha256));
    }

    private (PeerProcess Peer, string Socket) Start(string name)
    {
        string socket = _folder.File(name);
        var peer = new PeerProcess(Peers.Require("virtiofsd"),
            "--socket-path", socket, "--shared-dir", _folder.File("shared"), "--sandbox", "none");
        _started.Add(peer);
        peer.WaitForSocket(socket);
        return (peer, socket);
    }

    // Loads a state and saves it on the same connection, as a state file.
    private string LoadAndSave(string name, byte[] state)
    {
        var (_, socket) = Start(name);
        string path = _folder.File(name + ".state");
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var frontend = VhostFrontend.Connect(socket, scope);
        frontend.Negotiate();
        frontend.RequireDeviceState();
        using (var load = new AnonymousPipeServerStream(PipeDirection.Out, HandleInheritability.None))
        {
            Assert.Null(frontend.SetDeviceStateFd(VhostTransferDirection.Load, VhostTransferPhase.Stopped, Own(load.ClientSafePipeHandle)));
            load.Write(state);
        }

        frontend.CheckDeviceState();
        var save = new AnonymousPipeServerStream(PipeDirection.In, HandleInheritability.None);
        Assert.Null(frontend.SetDeviceStateFd(VhostTransferDirection.Save, VhostTransferPhase.Stopped, Own(save.ClientSafePipeHandle)));
        using (var channel = new FdStream(Own(save.SafePipeHandle), FileAccess.Read, scope, "the state"))
        using (var file = AtomicFile.Create(path, scope))
        using (var writer = new StateWriter(file.Stream, DeviceStateKind.VhostUser, raw: false, computeHash: true))
        {
            writer.WriteToEnd(channel);
            writer.Complete();
            file.Commit();
        }

        frontend.CheckDeviceState();
        return path;
    }

    private static Microsoft.Win32.SafeHandles.SafeFileHandle Own(Microsoft.Win32.SafeHandles.SafePipeHandle handle)
    {
        // The number moves to a handle of the other kind; the first one no longer owns it.
        nint number = handle.DangerousGetHandle();
        handle.SetHandleAsInvalid();
        return new(number, ownsHandle: true);
    }

    private static string Verify(string path)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var verification = StateFile.Verify(path, DeviceStateKind.VhostUser, raw: false, requireManifest: false, scope);
        Assert.True(verification.Report.Passed, verification.Report.ToString());
        return verification.Digest!.Value.Sha256!;
    }

    private void AssertRefusedAtCheck(byte[] state)
    {
        File.WriteAllBytes(_folder.File("raw"), state);
        var (peer, socket) = Start("s");
        var e = Assert.Throws<VhostException>(() => Conversation.Load(socket, _folder.File("raw"), raw: true));
        Assert.Equal(VhostError.CheckFailed, e.Reason);
        Assert.Equal(FailureKind.Refused, e.Kind);
        Assert.Contains("CHECK_DEVICE_STATE gave 0x1", e.Message);
        Assert.Contains("virtiofsd", e.Message + peer.Output);
        Assert.Equal(0, peer.WaitForExit());
        Assert.Contains("Failed to load state", peer.Output);
    }
}
