using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>splice(2): moves bytes between a pipe and another descriptor without a copy into this process.</summary>
internal static partial class Splice
{
    private const uint Move = 1;
    private const uint NonBlock = 2;

    [LibraryImport("libc", EntryPoint = "splice", SetLastError = true)]
    private static unsafe partial nint SpliceNative(int from, long* fromOffset, int to, long* toOffset, nuint count, uint flags);

    /// <summary>Moves up to <paramref name="count"/> bytes at the current positions. Does not wait for the pipe.</summary>
    /// <returns>Bytes moved, 0 at the end of the source, -1 with errno.</returns>
    internal static unsafe nint Once(SafeHandle from, SafeHandle to, nuint count)
    {
        using var source = new BorrowedFd(from);
        using var target = new BorrowedFd(to);
        return SpliceNative(source.Number, null, target.Number, null, count, Move | NonBlock);
    }
}
