using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>syncfs(2): makes everything durable that was written to the file system of a directory, however many files it was.</summary>
internal static partial class FileSystemSync
{
    private const int ReadOnlyCloseOnExec = 0x80000;

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenNative(string path, int flags);

    [LibraryImport("libc", EntryPoint = "syncfs", SetLastError = true)]
    private static partial int SyncNative(int fd);

    internal static void Flush(string directory)
    {
        using var handle = new SafeFileHandle(
            (int)NativeError.Check(OpenNative(directory, ReadOnlyCloseOnExec), "open", directory), true);
        using var fd = new BorrowedFd(handle);
        NativeError.Check(SyncNative(fd.Number), "syncfs", directory);
    }
}
