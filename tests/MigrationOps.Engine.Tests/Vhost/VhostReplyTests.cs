using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vhost;

public sealed class VhostReplyTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly TransferScope _scope = new(TimeSpan.FromSeconds(60));
    private readonly string _path;

    public VhostReplyTests() => _path = _folder["s"];

    // What is wrong with a reply to SET_DEVICE_STATE_FD; null if nothing is.
    public static TheoryData<ulong, int, VhostError?> Replies => new()
    {
        { 0x000, 0, VhostError.ReplyDescriptorMismatch },
        { 0x000, 1, null },
        { 0x000, 2, VhostError.ReplyDescriptorMismatch },
        { 0x001, 0, VhostError.TransferRefused },
        { 0x001, 1, VhostError.TransferRefused },
        { 0x001, 2, VhostError.TransferRefused },
        { 0x100, 0, null },
        { 0x100, 1, VhostError.ReplyDescriptorMismatch },
        { 0x100, 2, VhostError.ReplyDescriptorMismatch },
        { 0x101, 0, VhostError.TransferRefused },
        { 0x101, 1, VhostError.TransferRefused },
        { 0x101, 2, VhostError.TransferRefused },
        { 0x0ff, 0, VhostError.TransferRefused },
        { 0x200, 0, VhostError.ReplyDescriptorMismatch },
        { ulong.MaxValue, 0, VhostError.TransferRefused },
    };

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [MemberData(nameof(Replies))]
    public void A_reply_is_judged_by_its_value_and_its_descriptors_and_none_of_them_stays_open(ulong value, int descriptors, VhostError? wrong)
    {
        var pipes = Enumerable.Range(0, descriptors).Select(_ => Pipe.Create()).ToArray();
        using var backend = new ScriptedBackend(_path, session =>
        {
            session.ServeUntil(VhostUserRequest.SetDeviceStateFd);
            session.Reply(VhostUserRequest.SetDeviceStateFd, value, [.. pipes.Select(pipe => pipe.Read)]);
            Array.ForEach(pipes, pipe => pipe.Read.Dispose());
            session.ServeUntil(VhostUserRequest.None);
        });
        using (var frontend = VhostFrontend.Connect(_path, _scope))
        {
            frontend.Negotiate();
            SafeFileHandle? own = null;
            var e = Record.Exception(() => own = Begin(frontend, VhostTransferDirection.Save)) as VhostException;
            Assert.Equal(wrong, e?.Reason);
            Assert.Equal(wrong is null && descriptors == 1, own is not null);
            if (e is not null)
            {
                Assert.Contains($"0x{value:x}", e.Message);
                Assert.Contains("SET_DEVICE_STATE_FD", e.Transcript[^1]);
            }

            own?.Dispose();
        }

        backend.Join();

        // A write fails only when no copy of the read end is left anywhere.
        Assert.All(pipes, pipe => Assert.Equal(-1, FdIo.Write(pipe.Write, "x"u8)));
        Array.ForEach(pipes, pipe => pipe.Write.Dispose());
    }

    [Theory]
    [InlineData(VhostTransferDirection.Save)]
    [InlineData(VhostTransferDirection.Load)]
    public void A_descriptor_that_is_open_for_the_other_direction_is_refused(VhostTransferDirection direction)
    {
        var (read, write) = Pipe.Create();
        using var wrongEnd = direction == VhostTransferDirection.Save ? write : read;
        using var otherEnd = direction == VhostTransferDirection.Save ? read : write;
        using var backend = new ScriptedBackend(_path, session =>
        {
            session.ServeUntil(VhostUserRequest.SetDeviceStateFd);
            session.Reply(VhostUserRequest.SetDeviceStateFd, 0, wrongEnd);
            session.ServeUntil(VhostUserRequest.None);
        });
        using var frontend = VhostFrontend.Connect(_path, _scope);
        frontend.Negotiate();
        var e = Assert.Throws<VhostException>(() => Begin(frontend, direction));
        Assert.Equal(VhostError.UnusableReplyDescriptor, e.Reason);
        Assert.Equal(FailureKind.Protocol, e.Kind);
    }

    [Fact]
    public void A_socket_as_the_back_ends_own_descriptor_serves_both_directions()
    {
        States.Save(_folder["in"], States.RandomBytes(300_000));
        byte[] taken = [];
        using var backend = new ScriptedBackend(_path, session =>
        {
            foreach (var direction in new[] { VhostTransferDirection.Load, VhostTransferDirection.Save })
            {
                using var pair = new UnixPair();
                session.ServeUntil(VhostUserRequest.SetDeviceStateFd);
                session.Reply(VhostUserRequest.SetDeviceStateFd, 0, pair.A.Handle);
                pair.A.Dispose();
                using var channel = FdStream.Over(pair.SocketB, pair.Scope, "channel");
                if (direction == VhostTransferDirection.Load)
                {
                    using var all = new MemoryStream();
                    channel.CopyTo(all);
                    taken = all.ToArray();
                }
                else
                {
                    channel.Write(taken);
                }

                channel.Dispose();
                session.ServeUntil(VhostUserRequest.CheckDeviceState);
                session.Reply(VhostUserRequest.CheckDeviceState, 0);
            }
        });
        using var frontend = VhostFrontend.Connect(_path, _scope);
        frontend.Negotiate();
        byte[] state = States.RandomBytes(300_000);
        VhostTransferPipe.Run(frontend, VhostTransferDirection.Load, _scope, channel =>
        {
            channel.Write(state);
            return 0;
        });
        var saved = VhostTransferPipe.Run(frontend, VhostTransferDirection.Save, _scope, channel =>
        {
            using var all = new MemoryStream();
            channel.CopyTo(all);
            return all.ToArray();
        });
        backend.Join();
        Assert.Equal(state, saved);
    }

    [Theory]
    [InlineData(VhostUserRequest.GetFeatures)]
    [InlineData(VhostUserRequest.GetProtocolFeatures)]
    [InlineData(VhostUserRequest.CheckDeviceState)]
    public void A_descriptor_with_a_reply_that_has_none_is_an_error_and_is_closed(VhostUserRequest request)
    {
        var (read, write) = Pipe.Create();
        using var backend = new ScriptedBackend(_path, session =>
        {
            if (request == VhostUserRequest.CheckDeviceState)
            {
                session.AcceptTransfer().Dispose();
            }

            session.ServeUntil(request);
            session.Reply(request, request == VhostUserRequest.GetFeatures ? VhostFeatures.ProtocolFeatures : 0, read);
            read.Dispose();
            session.ServeUntil(VhostUserRequest.None);
        });
        var e = Assert.Throws<VhostException>(() => Transfers.Save(_path, new Endpoint.File(_folder["f"])));
        Assert.Equal(VhostError.ReplyDescriptorMismatch, e.Reason);
        backend.Join();
        Assert.Equal(-1, FdIo.Write(write, "x"u8));
        write.Dispose();
    }

    // Headers that are no reply to the request: id (0: the right one), flags, size.
    public static TheoryData<uint, uint, uint, VhostError> Headers => new()
    {
        { 34, 5, 8, VhostError.UnexpectedReply },
        { 0, 1, 8, VhostError.UnexpectedReply },
        { 0, 9, 8, VhostError.UnexpectedReply },
        { 0, 4, 8, VhostError.WrongVersion },
        { 0, 6, 8, VhostError.WrongVersion },
        { 0, 7, 8, VhostError.WrongVersion },
        { 0, 5, 0, VhostError.WrongReplySize },
        { 0, 5, 4, VhostError.WrongReplySize },
        { 0, 5, 12, VhostError.WrongReplySize },
        { 0, 5, uint.MaxValue, VhostError.WrongReplySize },
    };

    [Theory]
    [MemberData(nameof(Headers))]
    public void A_header_that_answers_nothing_is_told_from_one_that_does(uint id, uint flags, uint size, VhostError reason)
    {
        foreach (var request in (VhostUserRequest[])[VhostUserRequest.GetFeatures, VhostUserRequest.GetProtocolFeatures,
            VhostUserRequest.SetDeviceStateFd, VhostUserRequest.CheckDeviceState])
        {
            using var backend = new ScriptedBackend(_path, session =>
            {
                if (request == VhostUserRequest.CheckDeviceState)
                {
                    session.AcceptTransfer().Dispose();
                }

                session.ServeUntil(request);
                byte[] reply = VhostUserHeader.Compose(id == 0 ? request : (VhostUserRequest)id, flags, new byte[8]);
                BitConverter.TryWriteBytes(reply.AsSpan(8), size);
                session.Send(reply);
                session.ServeUntil(VhostUserRequest.None);
            });
            var e = Assert.Throws<VhostException>(() => Transfers.Save(_path, new Endpoint.File(_folder["f"])));
            Assert.Equal(reason, e.Reason);
            Assert.Equal(FailureKind.Protocol, e.Kind);
            Assert.Contains(VhostUserHeader.NameOf(request), e.Message);
            Assert.Contains("not a reply to", e.Transcript[^1]);
        }
    }

    [Theory]
    [InlineData(1, true)]
    [InlineData(11, true)]
    [InlineData(12, true)]
    [InlineData(19, true)]
    [InlineData(1, false)]
    [InlineData(11, false)]
    [InlineData(12, false)]
    [InlineData(19, false)]
    public void Part_of_a_reply_is_silence_or_a_broken_connection(int bytes, bool stays)
    {
        using var backend = new ScriptedBackend(_path, session =>
        {
            session.ServeUntil(VhostUserRequest.GetFeatures);
            session.Send(VhostUserHeader.Compose(VhostUserRequest.GetFeatures, 5, new byte[8])[..bytes]);
            if (stays)
            {
                session.ServeUntil(VhostUserRequest.None);
            }
        });
        using var scope = new TransferScope(stays ? Transfers.Short : TimeSpan.FromSeconds(60));
        using var frontend = VhostFrontend.Connect(_path, scope);
        var e = Assert.Throws<VhostException>(frontend.Negotiate);
        Assert.Equal(stays ? VhostError.Timeout : VhostError.Disconnected, e.Reason);
        Assert.Contains("GET_FEATURES", e.Message);
    }

    [Fact]
    public void A_reply_that_comes_byte_by_byte_is_a_reply()
    {
        using var backend = new ScriptedBackend(_path, session =>
        {
            session.ServeUntil(VhostUserRequest.GetFeatures);
            foreach (byte b in VhostUserHeader.Compose(VhostUserRequest.GetFeatures, 5, VhostUserHeader.Payload(42)))
            {
                session.Send([b]);
            }

            session.ServeUntil(VhostUserRequest.None);
        });
        using var frontend = VhostFrontend.Connect(_path, _scope);
        frontend.Negotiate();
        Assert.Equal(42UL, frontend.Features);
    }

    [Theory]
    [InlineData(1, "0x1.")]
    [InlineData(0x16, "errno 22")]
    [InlineData(0x3d, "errno 61")]
    [InlineData(ulong.MaxValue, "0xffffffffffffffff")]
    public void A_failed_check_shows_its_number_and_what_passt_means_by_it(ulong value, string text)
    {
        using var backend = new ScriptedBackend(_path, session =>
        {
            session.AcceptTransfer().Dispose();
            session.ServeUntil(VhostUserRequest.CheckDeviceState);
            session.Reply(VhostUserRequest.CheckDeviceState, value);
            session.ServeUntil(VhostUserRequest.None);
        });
        var e = Assert.Throws<VhostException>(() => Transfers.Save(_path, new Endpoint.File(_folder["f"])));
        Assert.Equal(VhostError.CheckFailed, e.Reason);
        Assert.Contains(text, e.Message);
        Assert.DoesNotContain("f", _folder.Entries);
    }

    private static SafeFileHandle? Begin(VhostFrontend frontend, VhostTransferDirection direction)
    {
        var (read, write) = Pipe.Create();
        var (theirs, ours) = direction == VhostTransferDirection.Save ? (write, read) : (read, write);
        ours.Dispose();
        return frontend.SetDeviceStateFd(direction, VhostTransferPhase.Stopped, theirs);
    }
}
