using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>memfd_create(2): anonymous memory behind a descriptor, as guest RAM and hand-over state have it.</summary>
internal static partial class MemFd
{
    private const uint CloseOnExec = 1;
    private const uint AllowSealing = 2;

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int MemFdCreateNative(string name, uint flags);

    /// <summary>Creates close-on-exec memory that may be sealed.</summary>
    /// <param name="name">What /proc shows; the kernel allows 249 bytes.</param>
    /// <param name="size">Bytes.</param>
    internal static SafeFileHandle Create(string name, long size)
    {
        var handle = new SafeFileHandle(
            (int)NativeError.Check(MemFdCreateNative(name, CloseOnExec | AllowSealing), "memfd_create", name), true);
        try
        {
            RandomAccess.SetLength(handle, size);
            return handle;
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }
}
