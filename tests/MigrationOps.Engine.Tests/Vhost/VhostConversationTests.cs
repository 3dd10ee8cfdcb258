using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vhost;

public sealed class VhostConversationTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly TransferScope _scope = new(TimeSpan.FromSeconds(60));
    private readonly string _path;

    public VhostConversationTests() => _path = _folder["s"];

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void A_save_keeps_the_order_of_the_protocol_and_drops_its_own_pipe_for_the_back_ends()
    {
        using var backend = new ScriptedBackend(_path, session =>
        {
            // With a pipe of its own, the back-end sees the front-end drop the other one.
            var (read, write) = Pipe.Create();
            using (write)
            {
                session.ServeUntil(VhostUserRequest.SetDeviceStateFd);
                session.Reply(VhostUserRequest.SetDeviceStateFd, 0, read);
                read.Dispose();
                FdIo.Write(write, "the state"u8);
                using var theirs = session.Received.Take()!;
                Waiting.Until(() => FdIo.Write(theirs, "x"u8) < 0, "the front-end to drop its own pipe");
            }

            session.ServeUntil(VhostUserRequest.CheckDeviceState);
            session.Reply(VhostUserRequest.CheckDeviceState, 0);
        });
        var transfer = Transfers.Save(_path, new Endpoint.File(_folder["f"]));
        backend.Join();
        Assert.Equal(9, transfer.Bytes);
        Assert.True(transfer.Checked);
        Assert.Equal([VhostUserRequest.GetFeatures, VhostUserRequest.SetOwner, VhostUserRequest.GetProtocolFeatures,
            VhostUserRequest.SetProtocolFeatures, VhostUserRequest.SetDeviceStateFd, VhostUserRequest.CheckDeviceState],
            backend.Messages.Select(message => message.Request));
        Assert.Equal(ScriptedBackend.AllProtocolFeatures, backend.Messages[3].Word);
        Assert.Equal(0UL, backend.Messages[4].Word);
        Assert.Equal([0, 0, 0, 0, 1, 0], backend.Messages.Select(message => message.Descriptors));
        Assert.All(backend.Messages, message => Assert.Equal(1u, message.Flags));
    }

    [Fact]
    public void A_load_has_closed_its_end_of_the_pipe_before_it_asks_for_the_check()
    {
        States.Save(_folder["f"], [1, 2, 3]);
        int atEnd = -1;
        using var backend = new ScriptedBackend(_path, session =>
        {
            using var read = session.AcceptTransfer();
            session.ServeUntil(VhostUserRequest.CheckDeviceState);
            Assert.Equal(3, FdIo.Read(read, new byte[10]));
            Fcntl.SetNonBlocking(read, "read");
            atEnd = (int)FdIo.Read(read, new byte[10]);
            session.Reply(VhostUserRequest.CheckDeviceState, 0);
        });
        Transfers.Load(_path, new Endpoint.File(_folder["f"]));
        backend.Join();
        Assert.Equal(0, atEnd);
        Assert.Equal(1u, BinaryPrimitives.ReadUInt32LittleEndian(backend.Messages[4].Payload));
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32LittleEndian(backend.Messages[4].Payload.AsSpan(4)));
    }

    [Theory]
    [InlineData(ScriptedBackend.DeviceState, ScriptedBackend.DeviceState)]
    [InlineData(ulong.MaxValue, ScriptedBackend.AllProtocolFeatures)]
    [InlineData(0x8a42bUL, ScriptedBackend.AllProtocolFeatures)]
    [InlineData(0x8000eUL, VhostFeatures.ReplyAck | VhostFeatures.DeviceState)]
    public void Of_the_features_that_are_offered_only_those_that_are_used_are_taken(ulong offered, ulong taken)
    {
        using var backend = new ScriptedBackend(_path, session => session.ServeUntil(VhostUserRequest.None, offered));
        using var frontend = VhostFrontend.Connect(_path, _scope);
        frontend.Negotiate();
        Assert.True(frontend.SupportsDeviceState);
        Assert.Equal(offered, frontend.ProtocolFeatures);
        Assert.Equal((taken & VhostFeatures.MultiQueue) != 0 ? 3UL : 1UL, frontend.GetQueueCount());
        frontend.Dispose();
        backend.Join();
        Assert.Equal(taken, backend.Messages.Single(message => message.Request == VhostUserRequest.SetProtocolFeatures).Word);
    }

    [Fact]
    public void Requests_out_of_order_are_refused_by_us_and_never_sent()
    {
        using var backend = new ScriptedBackend(_path, session =>
        {
            session.AcceptTransfer().Dispose();
            session.ServeUntil(VhostUserRequest.None);
        });
        using var frontend = VhostFrontend.Connect(_path, _scope);
        AssertOutOfOrder(() => frontend.CheckDeviceState());
        AssertOutOfOrder(() => frontend.GetQueueCount());
        AssertOutOfOrder(() => Begin(frontend));
        frontend.Negotiate();
        AssertOutOfOrder(frontend.Negotiate);
        AssertOutOfOrder(frontend.CheckDeviceState);
        Assert.Null(Begin(frontend));
        AssertOutOfOrder(() => Begin(frontend));
        AssertOutOfOrder(() => frontend.GetQueueCount());
        frontend.CheckDeviceState();
        AssertOutOfOrder(frontend.CheckDeviceState);
        frontend.Dispose();
        backend.Join();
        Assert.Equal(6, backend.Messages.Count);
    }

    [Fact]
    public void After_a_check_the_next_transfer_may_begin()
    {
        using var backend = new ScriptedBackend(_path, session =>
        {
            session.AcceptTransfer().Dispose();
            session.AcceptTransfer().Dispose();
            session.ServeUntil(VhostUserRequest.None);
        });
        using var frontend = VhostFrontend.Connect(_path, _scope);
        frontend.Negotiate();
        for (int i = 0; i < 2; i++)
        {
            Begin(frontend);
            frontend.CheckDeviceState();
        }
    }

    [Fact]
    public void A_transfer_that_was_refused_has_nothing_to_check_and_may_be_tried_again()
    {
        using var backend = new ScriptedBackend(_path, session =>
        {
            session.ServeUntil(VhostUserRequest.SetDeviceStateFd);
            session.Reply(VhostUserRequest.SetDeviceStateFd, 0x101);
            session.AcceptTransfer().Dispose();
            session.ServeUntil(VhostUserRequest.None);
        });
        using var frontend = VhostFrontend.Connect(_path, _scope);
        frontend.Negotiate();
        Assert.Equal(VhostError.TransferRefused, Assert.Throws<VhostException>(() => Begin(frontend)).Reason);
        AssertOutOfOrder(frontend.CheckDeviceState);
        Assert.Null(Begin(frontend));
        frontend.CheckDeviceState();
    }

    [Fact]
    public void After_a_broken_conversation_nothing_more_is_asked()
    {
        using var backend = new ScriptedBackend(_path, session =>
        {
            session.ServeUntil(VhostUserRequest.SetDeviceStateFd);
            session.Reply(VhostUserRequest.GetFeatures, 0);
            session.ServeUntil(VhostUserRequest.None);
        });
        using var frontend = VhostFrontend.Connect(_path, _scope);
        frontend.Negotiate();
        Assert.Equal(VhostError.UnexpectedReply, Assert.Throws<VhostException>(() => Begin(frontend)).Reason);
        AssertOutOfOrder(frontend.CheckDeviceState);
        AssertOutOfOrder(() => Begin(frontend));
        frontend.Dispose();
        backend.Join();
        Assert.Equal(VhostUserRequest.SetDeviceStateFd, backend.Messages[^1].Request);
    }

    [Theory]
    [InlineData(2, 0, VhostError.UnknownDirection)]
    [InlineData(-1, 0, VhostError.UnknownDirection)]
    [InlineData(0, 1, VhostError.UnknownPhase)]
    [InlineData(1, 99, VhostError.UnknownPhase)]
    public void An_unknown_direction_or_phase_is_refused_by_us_and_the_descriptor_is_closed(int direction, int phase, VhostError reason)
    {
        using var backend = new ScriptedBackend(_path, session => session.ServeUntil(VhostUserRequest.None));
        using var frontend = VhostFrontend.Connect(_path, _scope);
        frontend.Negotiate();
        var (read, write) = Pipe.Create();
        using var _ = read;
        var e = Assert.Throws<VhostException>(
            () => frontend.SetDeviceStateFd((VhostTransferDirection)direction, (VhostTransferPhase)phase, write));
        Assert.Equal(reason, e.Reason);
        Assert.Equal(FailureKind.InvalidArgument, e.Kind);
        Assert.True(write.IsClosed);
        frontend.Dispose();
        backend.Join();
        Assert.DoesNotContain(backend.Messages, message => message.Request == VhostUserRequest.SetDeviceStateFd);
    }

    [Fact]
    public void The_descriptor_that_is_handed_over_is_closed_here_whatever_the_outcome()
    {
        using var backend = new ScriptedBackend(_path, session =>
        {
            session.AcceptTransfer().Dispose();
            session.ServeUntil(VhostUserRequest.SetDeviceStateFd);
        });
        using var frontend = VhostFrontend.Connect(_path, _scope);
        var (early, late) = (Pipe.Create(), Pipe.Create());
        using var _ = early.Read;
        using var __ = late.Read;
        AssertOutOfOrder(() => frontend.SetDeviceStateFd(VhostTransferDirection.Save, VhostTransferPhase.Stopped, early.Write));
        Assert.True(early.Write.IsClosed);
        frontend.Negotiate();
        Assert.Null(Begin(frontend));
        frontend.CheckDeviceState();
        Assert.Equal(VhostError.Disconnected, Assert.Throws<VhostException>(
            () => frontend.SetDeviceStateFd(VhostTransferDirection.Save, VhostTransferPhase.Stopped, late.Write)).Reason);
        Assert.True(late.Write.IsClosed);
    }

    [Theory]
    [InlineData(1UL << 32, ulong.MaxValue, VhostError.NoProtocolFeatures, "VERSION_1")]
    [InlineData(VhostFeatures.ProtocolFeatures, 0x42bUL, VhostError.NoDeviceState, "REPLY_ACK")]
    [InlineData(VhostFeatures.ProtocolFeatures, 0UL, VhostError.NoDeviceState, "none")]
    public void A_back_end_without_the_feature_is_told_by_what_it_has(ulong features, ulong protocol, VhostError reason, string named)
    {
        using var backend = VhostBackend.Start(new VhostBackendOptions
        {
            SocketPath = _path,
            State = new MemoryBackendState(new byte[5]),
            Features = features,
            ProtocolFeatures = protocol,
        });
        States.Save(_folder["f"], [1, 2, 3]);
        foreach (var direction in Enum.GetValues<VhostTransferDirection>())
        {
            var e = Assert.Throws<VhostException>(() => Transfers.Run(direction, _path, _folder["f"]));
            Assert.Equal(reason, e.Reason);
            Assert.Equal(FailureKind.NotSupported, e.Kind);
            Assert.Contains(named, e.Message);
            Assert.Contains(_path, e.Message);
        }

        Assert.Equal((0L, 0L), (backend.BytesSaved, backend.BytesLoaded));
        Assert.True(States.Verify(_folder["f"]).Report.Passed);
        using var frontend = VhostFrontend.Connect(_path, _scope);
        frontend.Negotiate();
        Assert.False(frontend.SupportsDeviceState);
    }

    [Fact]
    public void The_transcript_is_part_of_an_error_and_shows_every_message_in_words()
    {
        using var backend = Transfers.Backend(_path, new MemoryBackendState(new byte[5]),
            new VhostBackendFault(VhostBackendFaultKind.FailCheck));
        var e = Assert.Throws<VhostException>(() => Transfers.Save(_path, new Endpoint.File(_folder["f"])));
        Assert.Equal(VhostError.CheckFailed, e.Reason);
        string[] expected =
        [
            "- connected to " + _path, "> GET_FEATURES", "< GET_FEATURES 0x140000000 [PROTOCOL_FEATURES, VERSION_1]", "> SET_OWNER",
            "> GET_PROTOCOL_FEATURES", "< GET_PROTOCOL_FEATURES 0x80009 [MQ, REPLY_ACK, DEVICE_STATE]",
            "> SET_PROTOCOL_FEATURES 0x80009 [MQ, REPLY_ACK, DEVICE_STATE]", "> SET_DEVICE_STATE_FD SAVE STOPPED + 1 fd",
            "< SET_DEVICE_STATE_FD 0x100 accepted, no fd", "- transfer ended, descriptor closed", "> CHECK_DEVICE_STATE",
            "< CHECK_DEVICE_STATE 0x1 failure",
        ];
        Assert.Equal(expected.Length, e.Transcript.Count);
        Assert.All(expected.Zip(e.Transcript), pair => Assert.Contains(pair.First, pair.Second));
        Assert.Contains($"pid {Environment.ProcessId}", e.Message);
        Assert.Contains($"pid {Environment.ProcessId}", e.Peer);
        Assert.Equal(_path, e.Target);
    }

    [Fact]
    public void A_transcript_keeps_the_latest_messages_only()
    {
        using var backend = new ScriptedBackend(_path, session => session.ServeUntil(VhostUserRequest.None));
        using var frontend = VhostFrontend.Connect(_path, _scope);
        frontend.Negotiate();
        for (int i = 0; i < 100; i++)
        {
            frontend.GetQueueCount();
        }

        Assert.Equal(64, frontend.Transcript.Count);
        Assert.Contains("GET_QUEUE_NUM 0x3", frontend.Transcript[^1]);
    }

    [Theory]
    [InlineData(VhostUserRequest.SetDeviceStateFd, "SET_DEVICE_STATE_FD")]
    [InlineData(VhostUserRequest.GetFeatures, "GET_FEATURES")]
    [InlineData((VhostUserRequest)99, "request 99")]
    public void Messages_have_the_names_of_the_protocols_document(VhostUserRequest request, string name)
        => Assert.Equal(name, VhostUserHeader.NameOf(request));

    [Fact]
    public void Features_have_names_and_unknown_bits_have_numbers()
    {
        Assert.Equal(["MQ", "LOG_SHMFD", "REPLY_ACK", "BACKEND_REQ", "BACKEND_SEND_FD", "RESET_DEVICE", "CONFIGURE_MEM_SLOTS", "DEVICE_STATE"],
            VhostFeatures.NamesOfProtocolFeatures(0x8a42b));
        Assert.Equal(["bit 63"], VhostFeatures.NamesOfProtocolFeatures(1UL << 63));
        Assert.Equal(["bit 0", "LOG_ALL", "VERSION_1"], VhostFeatures.NamesOfFeatures(1 | (1UL << 26) | (1UL << 32)));
        Assert.Empty(VhostFeatures.NamesOfFeatures(0));
    }

    private static SafeFileHandle? Begin(VhostFrontend frontend)
    {
        var (read, write) = Pipe.Create();
        read.Dispose();
        return frontend.SetDeviceStateFd(VhostTransferDirection.Save, VhostTransferPhase.Stopped, write);
    }

    private static void AssertOutOfOrder(Action action)
    {
        var e = Assert.Throws<VhostException>(action);
        Assert.Equal(VhostError.OutOfOrder, e.Reason);
        Assert.Equal(FailureKind.InvalidState, e.Kind);
    }

    private static void AssertOutOfOrder<T>(Func<T> action) => AssertOutOfOrder(() => { action(); });
}
