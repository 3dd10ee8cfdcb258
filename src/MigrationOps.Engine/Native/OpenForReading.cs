using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>open(2) with O_NONBLOCK: opening a named pipe in the ordinary way waits for a writer, out of reach of any deadline.</summary>
internal static partial class OpenForReading
{
    private const int NonBlock = 0x800;
    private const int CloseOnExec = 0x80000;

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenNative(string path, int flags);

    internal static SafeFileHandle NonBlocking(string path)
    {
        int fd = OpenNative(path, NonBlock | CloseOnExec);
        return fd >= 0 ? new SafeFileHandle(fd, ownsHandle: true) : throw NativeError.From("open", path, NativeError.Last);
    }
}
