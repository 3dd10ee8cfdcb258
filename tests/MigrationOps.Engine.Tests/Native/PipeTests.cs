using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Native;

public class PipeTests
{
    [Fact]
    public void Both_ends_of_a_pipe_close_on_exec()
    {
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        {
            Assert.True(Fcntl.IsCloseOnExec(read));
            Assert.True(Fcntl.IsCloseOnExec(write));
            Assert.Equal(FileAccess.Read, Fcntl.GetAccess(read, "r"));
            Assert.Equal(FileAccess.Write, Fcntl.GetAccess(write, "w"));
            Assert.Equal(FileKind.Pipe, FileKinds.Of(read, "r"));
        }
    }

    [Fact]
    public void What_waits_in_a_pipe_is_counted_until_it_is_read()
    {
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        {
            Assert.Equal(0, Ioctl.GetReadableBytes(read, "r"));
            Assert.Equal(300, FdIo.Write(write, new byte[300]));
            Assert.Equal(300, Ioctl.GetReadableBytes(read, "r"));
            Assert.Equal(100, FdIo.Read(read, new byte[100]));
            Assert.Equal(200, Ioctl.GetReadableBytes(read, "r"));
        }
    }

    [Fact]
    public void Splice_moves_bytes_between_a_pipe_and_a_file_and_says_when_the_source_is_empty_or_ended()
    {
        using var folder = new TestFolder();
        var (read, write) = Pipe.Create();
        using (read)
        using (var file = File.OpenHandle(folder["f"], FileMode.Create, FileAccess.ReadWrite))
        {
            using (write)
            {
                Assert.Equal(-1, Splice.Once(read, file, 100));
                Assert.Equal(NativeError.EAGAIN, NativeError.Last);
                FdIo.Write(write, "bytes without a copy"u8);
                Assert.Equal(5, Splice.Once(read, file, 5));
                Assert.Equal(15, Splice.Once(read, file, 100));
            }

            Assert.Equal(0, Splice.Once(read, file, 100));
        }

        Assert.Equal("bytes without a copy", File.ReadAllText(folder["f"]));
    }

    [Fact]
    public void A_pipe_is_enlarged_where_the_system_allows_it()
    {
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        {
            Assert.True(Fcntl.TrySetPipeSize(write, 128 << 10));
            Fcntl.SetNonBlocking(write, "w");
            Assert.Equal(128 << 10, FdIo.Write(write, new byte[1 << 20]));
        }
    }

    [Fact]
    public void A_descriptor_that_is_no_pipe_is_not_enlarged()
    {
        using var folder = new TestFolder();
        using var file = File.OpenHandle(folder["f"], FileMode.Create, FileAccess.Write);
        Assert.False(Fcntl.TrySetPipeSize(file, 128 << 10));
    }

    [Fact]
    public void Poll_tells_readable_from_hung_up_from_nothing()
    {
        var (read, write) = Pipe.Create();
        using (read)
        {
            Assert.Equal((0, PollEvents.None), PollOnce(read, PollEvents.Readable));
            using (write)
            {
                FdIo.Write(write, "x"u8);
                Assert.Equal((1, PollEvents.Readable), PollOnce(read, PollEvents.Readable));
                Assert.Equal((1, PollEvents.Writable), PollOnce(write, PollEvents.Writable));
            }

            Assert.Equal((1, PollEvents.Readable | PollEvents.Hangup), PollOnce(read, PollEvents.Readable));
        }
    }

    [Fact]
    public void A_write_to_a_pipe_without_a_reader_fails_and_does_not_kill_the_process()
    {
        var (read, write) = Pipe.Create();
        using (write)
        {
            read.Dispose();
            Assert.Equal(-1, FdIo.Write(write, "x"u8));
            Assert.Equal(NativeError.EPIPE, NativeError.Last);
        }
    }

    [Fact]
    public void A_splice_into_a_pipe_without_a_reader_fails_and_does_not_kill_the_process()
    {
        using var folder = new TestFolder();
        File.WriteAllText(folder["f"], "content");
        var (read, write) = Pipe.Create();
        using (write)
        using (var file = File.OpenHandle(folder["f"]))
        {
            read.Dispose();
            Assert.Equal(-1, Splice.Once(file, write, 7));
            Assert.Equal(NativeError.EPIPE, NativeError.Last);
        }
    }

    [Fact]
    public void A_duplicate_closes_on_exec_and_outlives_the_original()
    {
        var (read, write) = Pipe.Create();
        using (read)
        {
            SafeFileHandle copy;
            using (write)
            {
                copy = Fcntl.Duplicate(write, "w");
            }

            using (copy)
            {
                Assert.True(Fcntl.IsCloseOnExec(copy));
                Assert.Equal(1, FdIo.Write(copy, "x"u8));
            }

            Assert.Equal(1, FdIo.Read(read, new byte[2]));
            Assert.Equal(0, FdIo.Read(read, new byte[2]));
        }
    }

    [Fact]
    public void A_number_that_is_not_open_cannot_be_duplicated()
    {
        var e = Assert.Throws<WireException>(() => Fcntl.Duplicate(999_999, "fd:999999"));
        Assert.Contains("fd:999999", e.Message);
        Assert.Contains("errno 9", e.Message);
    }

    private static (int Ready, PollEvents Returned) PollOnce(SafeFileHandle handle, PollEvents events)
    {
        using var fd = new BorrowedFd(handle);
        Span<Poll.PollFd> fds = [new Poll.PollFd { Fd = fd.Number, Events = events }];
        int ready = Poll.Wait(fds, 0);
        return (ready, fds[0].Returned);
    }
}
