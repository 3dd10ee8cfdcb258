using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vhost;

public sealed class VhostTransferFailureTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public enum Answer
    {
        None,
        Wrong,
        Silence,
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(Answer.None, "closed the connection without a reason")]
    [InlineData(Answer.Wrong, "answered 0x15")]
    [InlineData(Answer.Silence, "Nothing moved within")]
    public void A_save_that_the_receiver_does_not_confirm_has_failed(Answer answer, string text)
    {
        using var backend = Transfers.Backend(_folder["a"], new MemoryBackendState(new byte[5000]));
        using var scope = new TransferScope(Waiting.Patience);
        using var listener = Transport.Listen(new Endpoint.Unix(_folder["l"]), TransportSecurity.Default, scope);
        using var done = new ManualResetEventSlim();
        var receiver = Waiting.OnThread(() =>
        {
            using var connection = listener.Accept("a sender");
            connection.CopyTo(Stream.Null);
            if (answer == Answer.Wrong)
            {
                connection.WriteByte(0x15);
            }

            if (answer == Answer.Silence)
            {
                done.Wait(Waiting.Patience);
            }
        });
        var e = Assert.Throws<VhostException>(
            () => Transfers.Save(_folder["a"], listener.Endpoint, answer == Answer.Silence ? Transfers.Short : null));
        done.Set();
        receiver.Join("the receiver");
        Assert.Equal(VhostError.NotConfirmed, e.Reason);
        Assert.Contains(text, e.Message, StringComparison.OrdinalIgnoreCase);
        Assert.Equal(listener.Endpoint.ToString(), e.Target);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_receiver_that_leaves_in_the_middle_is_a_disconnection(bool hash)
    {
        using var backend = Transfers.Backend(_folder["a"], new PatternBackendState(8 << 20));
        using var scope = new TransferScope(Waiting.Patience);
        using var listener = Transport.Listen(Endpoint.Parse("tcp:127.0.0.1:0"), TransportSecurity.Default, scope);
        var receiver = Waiting.OnThread(() =>
        {
            using var connection = listener.Accept("a sender");
            connection.ReadExactly(new byte[100_000]);
        });
        var e = Assert.Throws<WireException>(() => Transfers.Save(_folder["a"], listener.Endpoint, hash: hash));
        receiver.Join("the receiver");
        Assert.Equal(WireError.Disconnected, e.Reason);
        Assert.Equal(listener.Endpoint.ToString(), e.Target);
    }

    [Fact]
    public void A_receiver_whose_back_end_fails_is_not_taken_for_a_success_by_the_sender()
    {
        using var a = Transfers.Backend(_folder["a"], new MemoryBackendState(new byte[5000]));
        using var b = Transfers.Backend(_folder["b"], new MemoryBackendState(default), new VhostBackendFault(VhostBackendFaultKind.FailCheck));
        using var scope = new TransferScope(Waiting.Patience);
        var receiving = Transfers.Receive(Transfers.Options(_folder["b"], new Endpoint.Unix(_folder["l"])), scope, out var listening);
        var sender = Assert.Throws<VhostException>(() => Transfers.Save(_folder["a"], listening));
        Assert.Equal(VhostError.NotConfirmed, sender.Reason);
        var receiver = Assert.Throws<VhostException>(() => receiving.Result("the receiver"));
        Assert.Equal(VhostError.CheckFailed, receiver.Reason);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(31)]
    [InlineData(32)]
    [InlineData(36)]
    [InlineData(500)]
    [InlineData(1036)]
    [InlineData(1040)]
    [InlineData(1060)]
    [InlineData(-1)]
    public void A_source_that_is_cut_is_an_error_and_the_back_end_is_never_asked_whether_it_is_done(int at)
    {
        byte[] container = States.Container([States.RandomBytes(1000)]);
        int count = at < 0 ? container.Length + at : at;
        bool began = false;
        using var backend = new ScriptedBackend(_folder["b"], session =>
        {
            if (session.ServeUntil(VhostUserRequest.SetDeviceStateFd) is null)
            {
                return;
            }

            began = true;
            session.Reply(VhostUserRequest.SetDeviceStateFd, 0x100);
            using var channel = new FdStream(session.Received.Take()!, FileAccess.Read, session.Connection.Scope, "channel");
            channel.CopyTo(Stream.Null);

            // The end of the channel looks like the end of a state, so the connection must be gone before it.
            session.Connection.WaitForHangup(new Deadline(TimeSpan.FromTicks(1)), "the front-end, which has left");
            Assert.Null(session.Next());
        });
        using var scope = new TransferScope(Waiting.Patience);
        var receiving = Transfers.Receive(Transfers.Options(_folder["b"], new Endpoint.Unix(_folder["l"])), scope, out var listening);
        using (var sender = Transport.Connect(listening, TransportSecurity.Default, scope))
        {
            sender.Write(container.AsSpan(0, count));
        }

        var e = Assert.Throws<StateFileException>(() => receiving.Result("the receiver"));
        Assert.Equal(StateFileError.Truncated, e.Reason);
        Assert.Equal(count, e.ByteOffset);
        backend.Join();
        Assert.Equal(count >= 32, began);
        Assert.DoesNotContain(backend.Messages, message => message.Request == VhostUserRequest.CheckDeviceState);
        Assert.DoesNotContain("l", _folder.Entries);
    }

    [Theory]
    [InlineData(40)]
    [InlineData(1055)]
    public void A_flipped_bit_on_the_way_is_an_error_and_the_back_end_is_never_asked(int at)
    {
        byte[] container = States.Container([States.RandomBytes(1000)]);
        container[at] ^= 1;
        using var backend = new ScriptedBackend(_folder["b"], session =>
        {
            using var channel = session.AcceptTransfer();
            session.ServeUntil(VhostUserRequest.None);
        });
        using var scope = new TransferScope(Waiting.Patience);
        var receiving = Transfers.Receive(Transfers.Options(_folder["b"], new Endpoint.Unix(_folder["l"])), scope, out var listening);
        using var sender = Transport.Connect(listening, TransportSecurity.Default, scope);
        sender.Write(container);
        var e = Assert.Throws<StateFileException>(() => receiving.Result("the receiver"));
        Assert.Equal(StateFileError.Damaged, e.Reason);
        backend.Join();
        Assert.DoesNotContain(backend.Messages, message => message.Request == VhostUserRequest.CheckDeviceState);
    }

    [Fact]
    public void A_file_with_another_digest_than_expected_never_reaches_the_back_end()
    {
        var manifest = States.Save(_folder["f"], [1, 2, 3]);
        using var backend = Transfers.Backend(_folder["b"], new MemoryBackendState(default));
        var e = Assert.Throws<StateFileException>(
            () => Transfers.Load(_folder["b"], new Endpoint.File(_folder["f"]), expected: new string('0', 64)));
        Assert.Equal(StateFileError.DigestMismatch, e.Reason);
        Assert.Contains(manifest.Sha256!, e.Message);
        Assert.Equal(0, backend.Connections);
        Transfers.Load(_folder["b"], new Endpoint.File(_folder["f"]), expected: manifest.Sha256!.ToUpperInvariant());
        Assert.Equal(3, backend.BytesLoaded);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_connection_with_another_digest_than_expected_is_not_confirmed(bool raw)
    {
        byte[] bytes = raw ? [1, 2, 3] : States.Container([[1, 2, 3]]);
        using var backend = new ScriptedBackend(_folder["b"], session =>
        {
            using var channel = session.AcceptTransfer();
            session.ServeUntil(VhostUserRequest.None);
        });
        using var scope = new TransferScope(Waiting.Patience);
        var receiving = Transfers.Receive(
            Transfers.Options(_folder["b"], new Endpoint.Unix(_folder["l"]), raw, expected: new string('0', 64)), scope, out var listening);
        using (var sender = Transport.Connect(listening, TransportSecurity.Default, scope))
        {
            sender.Write(bytes);
        }

        Assert.Equal(StateFileError.DigestMismatch, Assert.Throws<StateFileException>(() => receiving.Result("the receiver")).Reason);
        backend.Join();
        Assert.DoesNotContain(backend.Messages, message => message.Request == VhostUserRequest.CheckDeviceState);
    }

    [Fact]
    public void A_damaged_file_never_reaches_the_back_end()
    {
        States.Save(_folder["f"], States.RandomBytes(1000));
        byte[] bytes = File.ReadAllBytes(_folder["f"]);
        bytes[500] ^= 4;
        File.WriteAllBytes(_folder["f"], bytes);
        using var backend = Transfers.Backend(_folder["b"], new MemoryBackendState(default));
        var e = Assert.Throws<StateFileException>(() => Transfers.Load(_folder["b"], new Endpoint.File(_folder["f"])));
        Assert.Equal(StateFileError.Damaged, e.Reason);
        Assert.Equal(0, backend.Connections);
    }

    [Theory]
    [InlineData(VhostTransferDirection.Save)]
    [InlineData(VhostTransferDirection.Load)]
    public void A_back_end_that_cannot_be_reached_changes_nothing(VhostTransferDirection direction)
    {
        States.Save(_folder["f"], [1, 2, 3]);
        File.WriteAllText(_folder["file"], "");
        foreach (var (path, reason) in new[] { (_folder["absent"], WireError.NotFound), (_folder["file"], WireError.NotASocket) })
        {
            var e = Assert.Throws<WireException>(() => Transfers.Run(direction, path, _folder["f"]));
            Assert.Equal(reason, e.Reason);
            Assert.Equal(path, e.Target);
        }

        Assert.Equal(["f", "f.json", "file"], _folder.Entries);
        Assert.True(States.Verify(_folder["f"]).Report.Passed);
    }

    [Fact]
    public void A_load_is_refused_before_it_listens_when_its_back_end_is_absent()
    {
        using var scope = new TransferScope(Waiting.Patience);
        var e = Assert.Throws<WireException>(() => VhostStateLoader.Load(
            Transfers.Options(_folder["absent"], new Endpoint.Unix(_folder["l"])), scope, listening: _ => Assert.Fail("no listener may be reported")));
        Assert.Equal(WireError.NotFound, e.Reason);
        Assert.Empty(_folder.Entries);
    }

    [Fact]
    public void A_destination_that_is_not_there_is_found_before_the_back_end_is_asked()
    {
        using var backend = Transfers.Backend(_folder["a"], new MemoryBackendState(new byte[10]));
        Assert.Equal(WireError.NotFound,
            Assert.Throws<WireException>(() => Transfers.Save(_folder["a"], new Endpoint.File(_folder["absent/f"]))).Reason);
        Assert.Equal(WireError.NotFound,
            Assert.Throws<WireException>(() => Transfers.Save(_folder["a"], new Endpoint.Unix(_folder["absent"]))).Reason);
        Assert.Equal(WireError.PlaintextRefused,
            Assert.Throws<WireException>(() => Transfers.Save(_folder["a"], new Endpoint.Tcp("192.0.2.1", 1))).Reason);
        Assert.Equal(0, backend.Connections);
    }

    [Fact]
    public void A_sender_that_the_network_refuses_by_certificate_says_so()
    {
        using var ours = new TestCertificates();
        using var theirs = new TestCertificates("Another authority");
        string server = ours.WriteBoth(_folder["server"]);
        string client = theirs.WriteBoth(_folder["client"]);
        File.AppendAllText(Path.Combine(client, "ca-cert.pem"), "\n" + File.ReadAllText(Path.Combine(server, "ca-cert.pem")));
        using var a = Transfers.Backend(_folder["a"], new MemoryBackendState(new byte[10]));
        using var b = Transfers.Backend(_folder["b"], new MemoryBackendState(default));
        using var scope = new TransferScope(Waiting.Patience);
        // Who fails the handshake is turned away, and no other peer connects.
        using var brief = new TransferScope(TimeSpan.FromSeconds(5));
        var receiving = Transfers.Receive(Transfers.Options(_folder["b"], new Endpoint.Tcp("127.0.0.1", 0)) with
        {
            Security = new TransportSecurity(server),
        }, brief, out var listening);
        var sender = Assert.IsAssignableFrom<MigrationOpsException>(Record.Exception(() => VhostStateSaver.Save(
            Transfers.Options(_folder["a"], listening) with { Security = new TransportSecurity(client) }, scope)));
        Assert.Contains(sender.ErrorId, new[] { "WireTlsFailed", "WireDisconnected", "VhostNotConfirmed" });
        Assert.Equal(WireError.TlsFailed, Assert.Throws<WireException>(() => receiving.Result("the receiver")).Reason);
        Assert.Equal(0, b.BytesLoaded);
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(false, true)]
    public void A_destination_that_fills_up_keeps_the_previous_file(bool hash, bool raw)
        => SmallDisk.Run($"{typeof(VhostTransferFailureTests).FullName}.{nameof(A_destination_that_fills_up_keeps_the_previous_file)}", disk =>
        {
            var previous = States.Save(disk["f"], [1, 2, 3]);
            using var backend = Transfers.Backend(_folder["a"], new PatternBackendState(4 << 20));
            var e = Assert.Throws<WireException>(() => Transfers.Save(_folder["a"], new Endpoint.File(disk["f"]), raw: raw, hash: hash));
            Assert.Equal(WireError.NoSpace, e.Reason);
            Assert.Equal(disk["f"], e.Target);
            Assert.Equal(["f", "f.json"], disk.Entries);
            Assert.Equal(previous.Id, States.Verify(disk["f"]).Header!.Value.Id);
            Assert.True(States.Verify(disk["f"]).Report.Passed);

            // The back-end is as good as before: it can be saved to somewhere else.
            Assert.Equal(4 << 20, Transfers.Save(_folder["a"], new Endpoint.File(_folder["elsewhere"])).Bytes);
        });

    [Fact]
    public void A_wait_for_a_sender_that_is_cancelled_ends_and_takes_its_socket_file_with_it()
    {
        using var backend = Transfers.Backend(_folder["b"], new MemoryBackendState(default));
        using var cancel = new CancellationTokenSource();
        using var scope = new TransferScope(Timeout.InfiniteTimeSpan, cancel.Token);
        var receiving = Transfers.Receive(Transfers.Options(_folder["b"], new Endpoint.Unix(_folder["l"])), scope, out _);
        cancel.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => receiving.Result("the receiver"));
        Assert.Equal(["b"], _folder.Entries);
    }
}
