using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>fcntl(2): duplication, status flags and the size of a pipe.</summary>
internal static partial class Fcntl
{
    private const int DuplicateCloseOnExec = 1030;
    private const int GetDescriptorFlags = 1;
    private const int GetStatusFlags = 3;
    private const int SetStatusFlags = 4;
    private const int SetDescriptorFlags = 2;
    private const int SetPipeSize = 1031;
    private const int GetSealsCommand = 1034;
    private const int AccessMask = 3;
    private const int NonBlocking = 0x800;
    private const int AppendOnly = 0x400;

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int FcntlNative(int fd, int command, nint argument);

    /// <summary>A close-on-exec duplicate of any descriptor number of this process; the original stays open.</summary>
    internal static SafeFileHandle Duplicate(int number, string what)
        => new((int)NativeError.Check(FcntlNative(number, DuplicateCloseOnExec, 3), "fcntl(F_DUPFD_CLOEXEC)", what), true);

    /// <summary>A close-on-exec duplicate; the original stays open.</summary>
    internal static SafeFileHandle Duplicate(SafeHandle handle, string what)
    {
        using var fd = new BorrowedFd(handle);
        return Duplicate(fd.Number, what);
    }

    /// <summary>Makes reads and writes return EAGAIN where they would block.</summary>
    internal static void SetNonBlocking(SafeHandle handle, string what) => AddStatusFlag(handle, NonBlocking, what);

    /// <summary>Makes every write go to the end of the file, on Linux even one with an offset.</summary>
    internal static void SetAppend(SafeHandle handle, string what) => AddStatusFlag(handle, AppendOnly, what);

    /// <summary>Makes reads and writes wait again.</summary>
    internal static void SetBlocking(SafeHandle handle, string what)
    {
        using var fd = new BorrowedFd(handle);
        nint flags = NativeError.Check(FcntlNative(fd.Number, GetStatusFlags, 0), "fcntl(F_GETFL)", what);
        NativeError.Check(FcntlNative(fd.Number, SetStatusFlags, flags & ~NonBlocking), "fcntl(F_SETFL)", what);
    }

    /// <summary>True if reads and writes wait.</summary>
    internal static bool IsBlocking(SafeHandle handle, string what) => (GetFlags(handle, what) & NonBlocking) == 0;

    /// <summary>The open flags of a descriptor (O_RDWR, O_APPEND …).</summary>
    internal static int GetFlags(SafeHandle handle, string what)
    {
        using var fd = new BorrowedFd(handle);
        return (int)NativeError.Check(FcntlNative(fd.Number, GetStatusFlags, 0), "fcntl(F_GETFL)", what);
    }

    /// <summary>The seals of memory (F_SEAL_GROW …), or null for what cannot be sealed.</summary>
    internal static int? TryGetSeals(SafeHandle handle)
    {
        using var fd = new BorrowedFd(handle);
        nint seals = FcntlNative(fd.Number, GetSealsCommand, 0);
        return seals < 0 ? null : (int)seals;
    }

    /// <summary>Decides whether a program that this process executes gets the descriptor.</summary>
    internal static void SetCloseOnExec(SafeHandle handle, bool closes, string what)
    {
        using var fd = new BorrowedFd(handle);
        NativeError.Check(FcntlNative(fd.Number, SetDescriptorFlags, closes ? 1 : 0), "fcntl(F_SETFD)", what);
    }

    /// <summary>How the descriptor was opened.</summary>
    internal static FileAccess GetAccess(SafeHandle handle, string what)
    {
        using var fd = new BorrowedFd(handle);
        nint flags = NativeError.Check(FcntlNative(fd.Number, GetStatusFlags, 0), "fcntl(F_GETFL)", what);
        return (flags & AccessMask) switch
        {
            0 => FileAccess.Read,
            1 => FileAccess.Write,
            _ => FileAccess.ReadWrite,
        };
    }

    /// <summary>True if the descriptor closes on exec.</summary>
    internal static bool IsCloseOnExec(SafeHandle handle)
    {
        using var fd = new BorrowedFd(handle);
        return (NativeError.Check(FcntlNative(fd.Number, GetDescriptorFlags, 0), "fcntl(F_GETFD)", "descriptor") & 1) != 0;
    }

    /// <summary>The same for a number; true also if it is not open.</summary>
    internal static bool ClosesOnExec(int number) => FcntlNative(number, GetDescriptorFlags, 0) is var flags && (flags < 0 || (flags & 1) != 0);

    /// <summary>Asks for a larger pipe. A refusal (limit of the user, not a pipe) only costs speed, so it is no error.</summary>
    internal static bool TrySetPipeSize(SafeHandle handle, int bytes)
    {
        using var fd = new BorrowedFd(handle);
        return FcntlNative(fd.Number, SetPipeSize, bytes) >= 0;
    }

    private static void AddStatusFlag(SafeHandle handle, nint flag, string what)
    {
        using var fd = new BorrowedFd(handle);
        nint flags = NativeError.Check(FcntlNative(fd.Number, GetStatusFlags, 0), "fcntl(F_GETFL)", what);
        NativeError.Check(FcntlNative(fd.Number, SetStatusFlags, flags | flag), "fcntl(F_SETFL)", what);
    }
}
