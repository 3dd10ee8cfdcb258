using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Native;

public class NativeErrorTests
{
    [Theory]
    [InlineData(NativeError.EACCES, WireError.AccessDenied, FailureKind.Permission)]
    [InlineData(NativeError.EPERM, WireError.AccessDenied, FailureKind.Permission)]
    [InlineData(NativeError.ENOENT, WireError.NotFound, FailureKind.NotFound)]
    [InlineData(NativeError.EPIPE, WireError.Disconnected, FailureKind.Connection)]
    [InlineData(NativeError.ECONNRESET, WireError.Disconnected, FailureKind.Connection)]
    [InlineData(NativeError.ENOTCONN, WireError.Disconnected, FailureKind.Connection)]
    [InlineData(NativeError.ENOSPC, WireError.NoSpace, FailureKind.Storage)]
    [InlineData(NativeError.EDQUOT, WireError.NoSpace, FailureKind.Storage)]
    [InlineData(NativeError.EFBIG, WireError.NoSpace, FailureKind.Storage)]
    [InlineData(NativeError.EMFILE, WireError.TooManyDescriptors, FailureKind.LimitExceeded)]
    [InlineData(NativeError.ETOOMANYREFS, WireError.TooManyDescriptors, FailureKind.LimitExceeded)]
    [InlineData(NativeError.EIO, WireError.InputOutput, FailureKind.Storage)]
    [InlineData(NativeError.EINVAL, WireError.InputOutput, FailureKind.Storage)]
    public void An_errno_becomes_a_failure_that_names_call_thing_and_cause(int errno, WireError reason, FailureKind kind)
    {
        var e = NativeError.From("write", "the thing", errno);
        Assert.Equal(reason, e.Reason);
        Assert.Equal(kind, e.Kind);
        Assert.Equal("the thing", e.Target);
        Assert.StartsWith("the thing: write failed: ", e.Message);
        Assert.Contains($"errno {errno}", e.Message);
        Assert.NotEmpty(e.RecommendedAction);
    }

    [Fact]
    public void Kinds_of_files_are_told_apart_by_path_and_by_descriptor()
    {
        using var folder = new TestFolder();
        File.WriteAllText(folder["regular"], "");
        Libc.MakeFifo(folder["fifo"]);
        File.CreateSymbolicLink(folder["link"], folder["fifo"]);
        Assert.Equal(FileKind.Regular, FileKinds.Of(folder["regular"]));
        Assert.Equal(FileKind.Pipe, FileKinds.Of(folder["fifo"]));
        Assert.Equal(FileKind.Pipe, FileKinds.Of(folder["link"]));
        Assert.Equal(FileKind.Other, FileKinds.Of(folder.Path));
        using var pair = new UnixPair();
        Assert.Equal(FileKind.Socket, FileKinds.Of(pair.A.Handle, "socket"));
        Assert.Equal(WireError.NotFound, Assert.Throws<WireException>(() => FileKinds.Of(folder["absent"])).Reason);
    }

    [Fact]
    public void A_directory_that_does_not_exist_cannot_be_made_durable()
    {
        using var folder = new TestFolder();
        DirectorySync.Flush(folder.Path);
        var e = Assert.Throws<WireException>(() => DirectorySync.Flush(folder["absent"]));
        Assert.Equal(WireError.NotFound, e.Reason);
    }

    [Fact]
    public void A_borrowed_handle_stays_open_until_it_is_given_back()
    {
        var (read, write) = Pipe.Create();
        using var _ = read;
        var borrowed = new BorrowedFd(write);
        write.Dispose();
        Assert.True(Directory.Exists("/proc/self/fd") && File.Exists($"/proc/self/fdinfo/{borrowed.Number}"));
        Assert.Equal(FileAccess.Write, AccessOf(borrowed.Number));
        borrowed.Dispose();
        Assert.Equal(0, FdIo.Read(read, new byte[1]));
        Assert.Throws<ObjectDisposedException>(() => FdIo.Write(write, "x"u8));
    }

    private static FileAccess AccessOf(int number)
    {
        using var borrowed = new SafeFileHandle(number, ownsHandle: false);
        return Fcntl.GetAccess(borrowed, "borrowed");
    }
}
