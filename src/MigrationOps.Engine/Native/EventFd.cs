using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>eventfd(2): a descriptor that becomes readable once and stays so; it makes a wait in poll(2) cancellable.</summary>
internal static partial class EventFd
{
    private const int CloseOnExec = 0x80000;
    private const int NonBlocking = 0x800;

    [LibraryImport("libc", EntryPoint = "eventfd", SetLastError = true)]
    private static partial int EventFdNative(uint initial, int flags);

    internal static SafeFileHandle Create()
        => new((int)NativeError.Check(EventFdNative(0, CloseOnExec | NonBlocking), "eventfd", "cancellation"), true);

    internal static void Signal(SafeFileHandle handle)
    {
        ReadOnlySpan<byte> one = BitConverter.GetBytes(1UL);
        FdIo.Write(handle, one);
    }
}
