using System.Diagnostics;
using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Wire;

public class UnixConnectionTests
{
    [Fact]
    public void Descriptors_travel_both_ways_and_close_on_exec_at_the_receiver()
    {
        using var pair = new UnixPair();
        foreach (var (from, to) in new[] { (pair.A, pair.B), (pair.B, pair.A) })
        {
            var (read, write) = Pipe.Create();
            using (read)
            {
                using (write)
                {
                    from.Send("m"u8, [write], pair.Deadline, "a message");
                }

                using var received = new FdQueue();
                Assert.Equal(1, to.Receive(new byte[8], received, pair.Deadline, "a message"));
                using (var handle = received.Take()!)
                {
                    Assert.True(Fcntl.IsCloseOnExec(handle));
                    Assert.Equal(4, FdIo.Write(handle, "here"u8));
                }

                Assert.Equal(4, FdIo.Read(read, new byte[8]));
                Assert.Equal(0, FdIo.Read(read, new byte[8]));
            }
        }
    }

    [Fact]
    public void The_sender_keeps_its_own_descriptor()
    {
        using var pair = new UnixPair();
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        {
            pair.A.Send("m"u8, [write], pair.Deadline, "a message");
            Assert.Equal(1, FdIo.Write(write, "x"u8));
        }
    }

    [Fact]
    public void Credentials_in_the_same_control_data_do_not_hide_the_descriptors_behind_them()
    {
        using var pair = new UnixPair();
        pair.SocketB.SetRawSocketOption(1, 16, BitConverter.GetBytes(1));
        var pipes = Enumerable.Range(0, 3).Select(_ => Pipe.Create()).ToArray();
        pair.A.Send("m"u8, [.. pipes.Select(p => p.Write)], pair.Deadline, "a message");
        using var received = new FdQueue();
        Assert.Equal(1, pair.B.Receive(new byte[8], received, pair.Deadline, "a message"));
        Assert.Equal(3, received.Count);
        for (byte i = 0; i < pipes.Length; i++)
        {
            using var handle = received.Take()!;
            FdIo.Write(handle, [i]);
            byte[] got = new byte[2];
            Assert.Equal(1, FdIo.Read(pipes[i].Read, got));
            Assert.Equal(i, got[0]);
            pipes[i].Read.Dispose();
            pipes[i].Write.Dispose();
        }
    }

    [Fact]
    public void A_message_read_byte_by_byte_has_its_descriptors_once()
    {
        using var pair = new UnixPair();
        using var some = Libc.OpenNull();
        pair.A.Send("twelve bytes"u8, [some, some], pair.Deadline, "a message");
        using var received = new FdQueue();
        byte[] bytes = new byte[12];
        for (int i = 0; i < bytes.Length; i++)
        {
            Assert.Equal(1, pair.B.Receive(bytes.AsSpan(i, 1), received, pair.Deadline, "a byte"));
            Assert.Equal(2, received.Count);
        }

        Assert.Equal("twelve bytes"u8, bytes);
    }

    [Fact]
    public void Descriptors_of_one_message_are_not_given_to_the_message_before_it()
    {
        using var pair = new UnixPair();
        using var some = Libc.OpenNull();
        pair.A.Send("first"u8, default, pair.Deadline, "a message");
        pair.A.Send("second"u8, [some], pair.Deadline, "a message");
        using var received = new FdQueue();
        byte[] first = new byte[5];
        Assert.True(pair.B.TryReceiveExactly(first, received, pair.Deadline, "the first"));
        Assert.Equal(0, received.Count);
        byte[] second = new byte[6];
        Assert.True(pair.B.TryReceiveExactly(second, received, pair.Deadline, "the second"));
        Assert.Equal(1, received.Count);
        Assert.Equal("second"u8, second);
    }

    [Fact]
    public void A_send_into_a_full_socket_goes_on_when_the_slow_reader_makes_room_and_sends_descriptors_once()
    {
        using var pair = new UnixPair();
        pair.SocketA.SendBufferSize = 4096;
        byte[] data = new byte[300_000];
        new Random(1).NextBytes(data);
        using var some = Libc.OpenNull();
        using var received = new FdQueue();
        var reader = Waiting.OnThread(() =>
        {
            byte[] got = new byte[data.Length];
            for (int filled = 0; filled < got.Length;)
            {
                filled += pair.B.Receive(got.AsSpan(filled, Math.Min(777, got.Length - filled)), received, pair.Deadline, "data");
            }

            return got;
        });
        pair.A.Send(data, [some], pair.Deadline, "a long message");
        Assert.Equal(data, reader.Result("the reader"));
        Assert.Equal(1, received.Count);
    }

    [Fact]
    public void A_send_without_a_reader_fails_at_its_deadline()
    {
        using var pair = new UnixPair(TimeSpan.FromMilliseconds(200));
        var clock = Stopwatch.StartNew();
        var e = Assert.Throws<WireException>(() => pair.A.Send(new byte[4 << 20], default, pair.Deadline, "SET_MEM_TABLE"));
        Assert.Equal(WireError.Timeout, e.Reason);
        Assert.Contains("SET_MEM_TABLE", e.Message);
        Assert.Contains("peer-b", e.Message);
        Assert.InRange(clock.Elapsed.TotalSeconds, 0.19, 40);
    }

    [Fact]
    public void A_receive_to_which_nothing_comes_fails_at_its_deadline()
    {
        using var pair = new UnixPair(TimeSpan.FromMilliseconds(100));
        using var received = new FdQueue();
        var e = Assert.Throws<WireException>(() => pair.A.Receive(new byte[8], received, pair.Deadline, "the reply to GET_FEATURES"));
        Assert.Equal(WireError.Timeout, e.Reason);
        Assert.Contains("the reply to GET_FEATURES from peer-b", e.Message);
    }

    [Fact]
    public void A_trickle_of_bytes_does_not_move_the_deadline_of_a_message()
    {
        using var pair = new UnixPair(TimeSpan.FromMilliseconds(300));
        using var stop = new CancellationTokenSource();
        var trickle = Waiting.OnThread(() =>
        {
            while (!stop.Token.WaitHandle.WaitOne(50))
            {
                pair.SocketA.Send([1]);
            }
        });
        using var received = new FdQueue();
        var e = Assert.Throws<WireException>(
            () => pair.B.TryReceiveExactly(new byte[1000], received, pair.Deadline, "a reply"));
        stop.Cancel();
        trickle.Join("the trickle");
        Assert.Equal(WireError.Timeout, e.Reason);
    }

    [Fact]
    public void A_send_to_a_peer_that_has_gone_fails_and_does_not_kill_the_process()
    {
        using var pair = new UnixPair();
        pair.B.Dispose();
        var e = Assert.Throws<WireException>(() => pair.A.Send("x"u8, default, pair.Deadline, "SET_OWNER"));
        Assert.Equal(WireError.Disconnected, e.Reason);
        Assert.Contains("SET_OWNER", e.Message);
    }

    [Fact]
    public void A_closed_peer_is_an_end_before_the_first_byte_and_an_error_behind_it()
    {
        using var pair = new UnixPair();
        using var received = new FdQueue();
        pair.A.Send("abc"u8, default, pair.Deadline, "a message");
        pair.A.Dispose();
        var e = Assert.Throws<WireException>(() => pair.B.TryReceiveExactly(new byte[12], received, pair.Deadline, "a header"));
        Assert.Equal(WireError.UnexpectedEnd, e.Reason);
        Assert.Contains("3 of 12 bytes of a header", e.Message);
        Assert.False(pair.B.TryReceiveExactly(new byte[12], received, pair.Deadline, "a header"));
    }

    [Fact]
    public void The_kernels_limit_of_descriptors_is_reached_but_not_crossed()
    {
        using var pair = new UnixPair();
        using var some = Libc.OpenNull();
        SafeFileHandle[] most = [.. Enumerable.Repeat(some, UnixConnection.MaxDescriptorsPerMessage)];
        pair.A.Send("m"u8, most, pair.Deadline, "a message");
        using var received = new FdQueue();
        pair.B.Receive(new byte[1], received, pair.Deadline, "a message");
        Assert.Equal(253, received.Count);
        var e = Assert.Throws<WireException>(() => pair.A.Send("m"u8, [.. most, some], pair.Deadline, "a message"));
        Assert.Equal(WireError.TooManyDescriptors, e.Reason);
        Assert.Contains("254", e.Message);
    }

    [Fact]
    public void Descriptors_need_a_byte_to_travel_with()
    {
        using var pair = new UnixPair();
        Assert.Throws<ArgumentException>(() => pair.A.Send(default, default, pair.Deadline, "nothing"));
    }

    [Fact]
    public void A_closed_descriptor_cannot_be_sent_and_the_others_stay_usable()
    {
        using var pair = new UnixPair();
        using var open = Libc.OpenNull();
        var closed = Libc.OpenNull();
        closed.Dispose();
        Assert.Throws<ObjectDisposedException>(() => pair.A.Send("m"u8, [open, closed], pair.Deadline, "a message"));
        pair.A.Send("m"u8, [open], pair.Deadline, "a message");
        using var received = new FdQueue();
        Assert.Equal(1, pair.B.Receive(new byte[8], received, pair.Deadline, "a message"));
        Assert.Equal(1, received.Count);
    }

    [Fact]
    public void Cancellation_ends_a_receive_and_a_blocked_send()
    {
        using var cancel = new CancellationTokenSource();
        using var pair = new UnixPair(Timeout.InfiniteTimeSpan, cancel.Token);
        var receiver = Waiting.OnThread(() => Record.Exception(() =>
        {
            using var received = new FdQueue();
            pair.A.Receive(new byte[1], received, pair.Deadline, "nothing");
        }));
        var sender = Waiting.OnThread(
            () => Record.Exception(() => pair.A.Send(new byte[8 << 20], default, pair.Deadline, "too much")));
        Waiting.Until(() => pair.SocketB.Available > 0, "the sender's first bytes");
        cancel.Cancel();
        Assert.IsAssignableFrom<OperationCanceledException>(receiver.Result("the receiver"));
        Assert.IsAssignableFrom<OperationCanceledException>(sender.Result("the sender"));
    }

    [Fact]
    public void The_peer_of_a_socket_is_known_by_process_and_user()
    {
        using var pair = new UnixPair();
        var credentials = pair.A.GetPeerCredentials();
        Assert.Equal(Environment.ProcessId, credentials.Pid);
        string uid = File.ReadLines("/proc/self/status").Single(line => line.StartsWith("Uid:")).Split('\t')[2];
        Assert.Equal(uid, credentials.Uid.ToString());
    }

    [Fact]
    public void The_end_of_a_peer_is_waited_for_even_while_its_bytes_are_unread()
    {
        using var pair = new UnixPair();
        pair.A.Send("unread"u8, default, pair.Deadline, "a message");
        var waiter = Waiting.OnThread(() => pair.B.WaitForHangup(pair.Deadline, "the peer to leave"));
        Assert.False(waiter.IsCompleted);
        pair.A.Dispose();
        waiter.Join("the wait for a hang-up");
    }

    [Fact]
    public void A_peer_that_does_not_leave_is_waited_for_until_the_deadline()
    {
        using var pair = new UnixPair(TimeSpan.FromMilliseconds(100));
        pair.A.ShutdownWrite();
        var e = Assert.Throws<WireException>(() => pair.B.WaitForHangup(pair.Deadline, "the peer to leave"));
        Assert.Equal(WireError.Timeout, e.Reason);
    }

    [Fact]
    public void After_the_end_of_its_sending_direction_a_connection_still_receives()
    {
        using var pair = new UnixPair();
        using var received = new FdQueue();
        pair.A.ShutdownWrite();
        Assert.Equal(0, pair.B.Receive(new byte[8], received, pair.Deadline, "an end"));
        pair.B.Send("still"u8, default, pair.Deadline, "an answer");
        Assert.Equal(5, pair.A.Receive(new byte[8], received, pair.Deadline, "an answer"));
        pair.B.Dispose();
        pair.A.ShutdownWrite();
    }
}

[Collection(Alone.Name)]
public class DescriptorLossTests
{
    [Fact]
    public void Descriptors_that_the_kernel_drops_are_an_error_and_none_of_the_others_leaks()
    {
        // The first loss opens what the runtime keeps for all that follow.
        LoseDescriptors();
        int before = ProcessUse.Descriptors;
        LoseDescriptors();
        ProcessUse.AssertReturnsTo(before, () => ProcessUse.Descriptors, "descriptors");
    }

    private static void LoseDescriptors()
    {
        using var pair = new UnixPair();
        using var received = new FdQueue();
        using var some = Libc.OpenNull();
        pair.A.Send("m"u8, [some, some, some, some], pair.Deadline, "a message");
        WireException? failure = null;
        Libc.WithFewDescriptors(2, () => failure = Assert.Throws<WireException>(
            () => pair.B.Receive(new byte[8], received, pair.Deadline, "four descriptors")));
        Assert.Equal(WireError.DescriptorsLost, failure!.Reason);
        Assert.Equal(FailureKind.LimitExceeded, failure.Kind);
        Assert.Contains("four descriptors", failure.Message);
        Assert.Contains("ulimit -n", failure.RecommendedAction);
        Assert.Equal(0, received.Count);
    }

    [Fact]
    public void What_is_not_claimed_is_closed()
    {
        using var pair = new UnixPair();
        using var some = Libc.OpenNull();
        int before = ProcessUse.Descriptors;
        pair.A.Send("m"u8, [some, some, some], pair.Deadline, "a message");
        using (var received = new FdQueue())
        {
            pair.B.Receive(new byte[8], received, pair.Deadline, "a message");
            using var claimed = received.Take();
            Assert.NotNull(claimed);
            Assert.Equal(before + 3, ProcessUse.Descriptors);
            Assert.Equal(2, received.CloseUnclaimed());
            Assert.Equal(before + 1, ProcessUse.Descriptors);
            Assert.Null(received.Take());
        }

        Assert.Equal(before, ProcessUse.Descriptors);
    }
}
