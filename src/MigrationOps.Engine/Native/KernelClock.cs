using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>adjtimex(2), reading only: is the clock disciplined, and how far may it be off?</summary>
internal static partial class KernelClock
{
    // struct timex on 64-bit systems: maxerror, in microseconds, is the fourth word; status follows esterror.
    private const int StructSize = 256;
    private const int MaximumErrorOffset = 24;
    private const int StatusOffset = 40;
    private const int Unsynchronized = 0x40;

    [LibraryImport("libc", EntryPoint = "adjtimex", SetLastError = true)]
    private static unsafe partial int AdjustNative(byte* time);

    /// <summary>The largest error by the kernel's estimate, or null if nothing disciplines the clock; false if it cannot be asked.</summary>
    internal static unsafe bool TryGet(out TimeSpan? maximumError)
    {
        byte* time = stackalloc byte[StructSize];
        new Span<byte>(time, StructSize).Clear();
        maximumError = null;
        if (AdjustNative(time) < 0)
        {
            return false;
        }

        if ((*(int*)(time + StatusOffset) & Unsynchronized) == 0)
        {
            maximumError = TimeSpan.FromMicroseconds(*(long*)(time + MaximumErrorOffset));
        }

        return true;
    }
}
