using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>getrlimit(2) and setrlimit(2) for the number of open descriptors.</summary>
internal static partial class ResourceLimit
{
    private const int OpenFiles = 7;

    [StructLayout(LayoutKind.Sequential)]
    private struct Limit
    {
        public nuint Soft;
        public nuint Hard;
    }

    [LibraryImport("libc", EntryPoint = "getrlimit", SetLastError = true)]
    private static unsafe partial int GetLimitNative(int resource, Limit* limit);

    [LibraryImport("libc", EntryPoint = "setrlimit", SetLastError = true)]
    private static unsafe partial int SetLimitNative(int resource, Limit* limit);

    /// <summary>How many descriptors this process may have open, now and at most.</summary>
    internal static unsafe (long Soft, long Hard) GetOpenFiles()
    {
        Limit limit;
        NativeError.Check(GetLimitNative(OpenFiles, &limit), "getrlimit", "open files");
        return (ToLong(limit.Soft), ToLong(limit.Hard));
    }

    /// <summary>Sets the limits.</summary>
    /// <returns>False if the kernel does not allow it.</returns>
    internal static unsafe bool TrySetOpenFiles(long soft, long hard)
    {
        var limit = new Limit { Soft = (nuint)soft, Hard = (nuint)hard };
        return SetLimitNative(OpenFiles, &limit) == 0;
    }

    /// <summary>Raises the soft limit to at least <paramref name="count"/>, and the hard one where that is allowed.</summary>
    /// <returns>True if that many may be open now.</returns>
    internal static bool TryRaiseOpenFiles(long count)
    {
        var (soft, hard) = GetOpenFiles();
        return soft >= count
            || (hard >= count && TrySetOpenFiles(hard, hard))
            || TrySetOpenFiles(count, Math.Max(hard, count));
    }

    private static long ToLong(nuint value) => value > long.MaxValue ? long.MaxValue : (long)value;
}
