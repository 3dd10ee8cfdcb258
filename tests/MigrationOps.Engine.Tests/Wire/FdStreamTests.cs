using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Wire;

public class FdStreamTests
{
    [Fact]
    public void A_pipe_gives_what_there_is_and_then_its_end()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var (read, write) = Pipe.Create();
        using var reader = new FdStream(read, FileAccess.Read, scope, "a pipe");
        using (var writer = new FdStream(write, FileAccess.Write, scope, "a pipe"))
        {
            writer.Write("abc"u8);
            Assert.Equal(0, reader.Read([], 0, 0));
            byte[] buffer = new byte[10];
            Assert.Equal(3, reader.Read(buffer, 0, 10));
            Assert.Equal("abc"u8, buffer.AsSpan(0, 3));
            Assert.False(reader.CanWrite || reader.CanSeek || writer.CanRead);
        }

        Assert.Equal(0, reader.Read(new byte[1], 0, 1));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_peer_that_ends_the_connection_and_then_throws_away_what_it_got_resets_it(bool readsIt)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        using var peer = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        peer.Connect(listener.LocalEndPoint!);
        using var stream = FdStream.Over(listener.Accept(), scope, "a peer");
        stream.Write("abc"u8);
        Waiting.Until(() => peer.Available == 3, "the bytes");
        if (readsIt)
        {
            Assert.Equal(3, peer.Receive(new byte[3]));
        }

        peer.Shutdown(SocketShutdown.Both);
        Assert.Equal(0, stream.Read(new byte[1], 0, 1));
        Assert.True(stream.WasTaken());
        Assert.False(stream.IsResetUntil(new Deadline(TimeSpan.Zero)));
        peer.Close();
        Assert.Equal(!readsIt, stream.IsResetUntil(new Deadline(readsIt ? TimeSpan.FromMilliseconds(50) : Waiting.Patience)));
    }

    [Fact]
    public void A_long_write_waits_for_a_slow_reader_longer_than_one_deadline()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(1));
        var (read, write) = Pipe.Create();
        using var reader = new FdStream(read, FileAccess.Read, scope, "a pipe");
        byte[] data = new byte[1 << 20];
        new Random(2).NextBytes(data);
        var sender = Waiting.OnThread(() =>
        {
            using var writer = new FdStream(write, FileAccess.Write, scope, "a pipe");
            writer.Write(data);
        });
        var clock = Stopwatch.StartNew();
        byte[] got = new byte[data.Length];
        for (int filled = 0, round = 0; filled < got.Length; round++)
        {
            // Slow, but never so slow that nothing moves within a deadline: progress moves it on.
            Waiting.Until(() => clock.ElapsedMilliseconds > round * 25 || round > 90, "the reader's next turn");
            filled += reader.Read(got, filled, Math.Min(10_000, got.Length - filled));
        }

        sender.Join("the writer");
        Assert.True(clock.ElapsedMilliseconds > 1100);
        Assert.Equal(data, got);
    }

    [Fact]
    public void A_write_without_a_reader_stalls_until_the_deadline_and_is_this_streams_fault()
    {
        using var scope = new TransferScope(TimeSpan.FromMilliseconds(100));
        var (read, write) = Pipe.Create();
        using var _ = read;
        using var writer = new FdStream(write, FileAccess.Write, scope, "the pipe to nowhere");
        var e = Assert.Throws<WireException>(() => writer.Write(new byte[1 << 20]));
        Assert.Equal(WireError.Timeout, e.Reason);
        Assert.Contains("room to write to the pipe to nowhere", e.Message);
        Assert.True(writer.IsCauseOf(e));
        Assert.False(writer.IsCauseOf(new IOException()));
    }

    [Fact]
    public void A_read_to_which_nothing_comes_stalls_until_the_deadline()
    {
        using var scope = new TransferScope(TimeSpan.FromMilliseconds(100));
        var (read, write) = Pipe.Create();
        using var _ = write;
        using var reader = new FdStream(read, FileAccess.Read, scope, "a quiet pipe");
        var e = Assert.Throws<WireException>(() => reader.ReadByte());
        Assert.Equal(WireError.Timeout, e.Reason);
        Assert.Contains("data from a quiet pipe", e.Message);
    }

    [Fact]
    public void A_write_to_a_reader_that_has_gone_is_a_disconnection()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var (read, write) = Pipe.Create();
        using var writer = new FdStream(write, FileAccess.Write, scope, "a pipe");
        read.Dispose();
        var e = Assert.Throws<WireException>(() => writer.WriteByte(1));
        Assert.Equal(WireError.Disconnected, e.Reason);
        Assert.True(writer.IsCauseOf(e));
    }

    [Fact]
    public void Cancellation_ends_a_read_a_blocked_write_and_a_copy_between_files()
    {
        using var folder = new TestFolder();
        using var cancel = new CancellationTokenSource();
        using var scope = new TransferScope(Timeout.InfiniteTimeSpan, cancel.Token);
        var (read, write) = Pipe.Create();
        var (quietRead, quietWrite) = Pipe.Create();
        using var _ = read;
        using var __ = quietWrite;
        using var writer = new FdStream(write, FileAccess.Write, scope, "full");
        using var reader = new FdStream(quietRead, FileAccess.Read, scope, "quiet");
        var blockedWrite = Waiting.OnThread(() => Record.Exception(() => writer.Write(new byte[1 << 20])));
        var blockedRead = Waiting.OnThread(() => Record.Exception(() => reader.ReadByte()));
        Waiting.Until(() => Ioctl.GetReadableBytes(read, "r") > 0, "the first bytes");
        cancel.Cancel();
        Assert.IsAssignableFrom<OperationCanceledException>(blockedWrite.Result("the write"));
        Assert.IsAssignableFrom<OperationCanceledException>(blockedRead.Result("the read"));
        using var file = new FdStream(
            File.OpenHandle(folder["f"], FileMode.Create, FileAccess.ReadWrite), FileAccess.ReadWrite, scope, "a file");
        Assert.ThrowsAny<OperationCanceledException>(() => file.WriteByte(1));
        Assert.ThrowsAny<OperationCanceledException>(() => file.ReadByte());
    }

    [Fact]
    public void A_file_is_read_written_and_positioned()
    {
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var file = new FdStream(
            File.OpenHandle(folder["f"], FileMode.Create, FileAccess.ReadWrite), FileAccess.ReadWrite, scope, "a file");
        file.Write("0123456789"u8);
        Assert.Equal(10, file.Position);
        Assert.Equal(10, file.Length);
        Assert.Equal(4, file.Seek(-6, SeekOrigin.End));
        Assert.Equal('4', file.ReadByte());
        file.Position = 0;
        file.SetLength(2);
        Assert.Equal(2, file.Read(new byte[8], 0, 8));
        Assert.True(file.CanSeek);
    }

    [Fact]
    public void A_socket_can_end_its_sending_direction_and_still_receive()
    {
        using var pair = new UnixPair();
        using var a = FdStream.Over(pair.SocketA, pair.Scope, "a");
        using var b = FdStream.Over(pair.SocketB, pair.Scope, "b");
        a.Write("request"u8);
        a.EndWriting();
        Assert.Equal(7, b.Read(new byte[100]));
        Assert.Equal(0, b.Read(new byte[100]));
        b.Write("answer"u8);
        Assert.Equal(6, a.Read(new byte[100]));
    }

    [Fact]
    public void A_socket_that_waits_in_the_kernel_gives_what_comes_and_then_its_end()
    {
        using var pair = new UnixPair();
        using var a = FdStream.Over(pair.SocketA, pair.Scope, "a", waitsInKernel: true);
        using var b = FdStream.Over(pair.SocketB, pair.Scope, "b");
        byte[] buffer = new byte[100];
        var waiting = Waiting.OnThread(() => a.Read(buffer));
        b.Write("abc"u8);
        Assert.Equal(3, waiting.Result("the read"));
        a.Write("answer"u8);
        Assert.Equal(6, b.Read(buffer));
        b.EndWriting();
        Assert.Equal(0, a.Read(buffer));
    }

    [Fact]
    public void A_socket_that_waits_in_the_kernel_wakes_up_when_it_is_cancelled()
    {
        using var pair = new UnixPair();
        using var cancel = new CancellationTokenSource();
        using var scope = new TransferScope(Timeout.InfiniteTimeSpan, cancel.Token);
        using var a = FdStream.Over(pair.SocketA, scope, "a", waitsInKernel: true);
        var started = new TaskCompletionSource();
        var read = Waiting.OnThread(() => Record.Exception(() =>
        {
            started.SetResult();
            a.ReadByte();
        }));
        started.Task.Join("the reader's start");
        cancel.Cancel();
        Assert.IsAssignableFrom<OperationCanceledException>(read.Result("the read"));
        Assert.ThrowsAny<OperationCanceledException>(() => a.ReadByte());
        Assert.ThrowsAny<OperationCanceledException>(() => a.WriteByte(1));
    }

    [Fact]
    public void A_socket_that_waits_in_the_kernel_has_its_deadline_in_both_directions()
    {
        using var pair = new UnixPair();
        using var scope = new TransferScope(TimeSpan.FromMilliseconds(100));
        using var a = FdStream.Over(pair.SocketA, scope, "a quiet socket", waitsInKernel: true);
        var read = Assert.Throws<WireException>(() => a.ReadByte());
        Assert.Equal(WireError.Timeout, read.Reason);
        Assert.Contains("data from a quiet socket", read.Message);
        var write = Assert.Throws<WireException>(() => a.Write(new byte[4 << 20]));
        Assert.Equal(WireError.Timeout, write.Reason);
        Assert.True(a.IsCauseOf(write));
    }
}
