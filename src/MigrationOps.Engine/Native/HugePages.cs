using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>madvise(2) for large buffers: pages of 2 MiB cost one fault where small ones cost 512.</summary>
internal static partial class HugePages
{
    private const int AdviseHugePage = 14;
    private const long PageSize = 2 * 1024 * 1024;

    [LibraryImport("libc", EntryPoint = "madvise", SetLastError = true)]
    private static unsafe partial int AdviseNative(byte* address, nuint length, int advice);

    /// <summary>Asks for large pages behind an array that does not move. A kernel without them only costs speed, so it is no error.</summary>
    internal static unsafe bool TryUse(Span<byte> pinned)
    {
        fixed (byte* start = pinned)
        {
            long first = ((long)start + PageSize - 1) & ~(PageSize - 1);
            long end = ((long)start + pinned.Length) & ~(PageSize - 1);
            return end > first && AdviseNative((byte*)first, (nuint)(end - first), AdviseHugePage) == 0;
        }
    }
}
