using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>fsync(2) of a directory, which makes a rename in it durable.</summary>
internal static partial class DirectorySync
{
    private const int ReadOnlyCloseOnExec = 0x80000;

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenNative(string path, int flags);

    internal static void Flush(string directory)
    {
        using var handle = new SafeFileHandle(
            (int)NativeError.Check(OpenNative(directory, ReadOnlyCloseOnExec), "open", directory), true);
        FdIo.Sync(handle, directory);
    }
}
