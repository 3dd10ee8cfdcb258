using System.Runtime.InteropServices;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Native;

/// <summary>The errno values that the engine branches on (Linux, generic architectures), and their translation.</summary>
internal static class NativeError
{
    internal const int EPERM = 1;
    internal const int ENOENT = 2;
    internal const int EINTR = 4;
    internal const int EIO = 5;
    internal const int ENXIO = 6;
    internal const int EBADF = 9;
    internal const int EAGAIN = 11;
    internal const int EACCES = 13;
    internal const int EBUSY = 16;
    internal const int ENODEV = 19;
    internal const int ENOTDIR = 20;
    internal const int EMFILE = 24;
    internal const int EFBIG = 27;
    internal const int ENOSPC = 28;
    internal const int EPIPE = 32;
    internal const int EINVAL = 22;
    internal const int ENOMSG = 42;
    internal const int ECONNRESET = 104;
    internal const int ELOOP = 40;
    internal const int ENOTCONN = 107;
    internal const int ECONNREFUSED = 111;
    internal const int EINPROGRESS = 115;
    internal const int ETOOMANYREFS = 109;
    internal const int EDQUOT = 122;

    /// <summary>The errno of the last call.</summary>
    internal static int Last => Marshal.GetLastPInvokeError();

    /// <summary>Turns the errno of a failed call into the exception that names the call, the path or endpoint, and the cause.</summary>
    internal static WireException From(string call, string what, int errno)
    {
        var reason = errno switch
        {
            EPERM or EACCES => WireError.AccessDenied,
            ENOENT or ENOTDIR => WireError.NotFound,
            EPIPE or ECONNRESET or ENOTCONN => WireError.Disconnected,
            _ when IsSpace(errno) => WireError.NoSpace,
            EMFILE or ETOOMANYREFS => WireError.TooManyDescriptors,
            _ => WireError.InputOutput,
        };
        return new WireException(reason, $"{what}: {call} failed: {Describe(errno)}.") { Target = what };
    }

    /// <summary>True if the destination is full: disk, quota or file size limit.</summary>
    internal static bool IsSpace(int errno) => errno is ENOSPC or EDQUOT or EFBIG;

    /// <summary>The system's text for an errno, with its number.</summary>
    internal static string Describe(int errno) => $"{Marshal.GetPInvokeErrorMessage(errno)} (errno {errno})";

    /// <summary>Throws if the call returned -1.</summary>
    internal static nint Check(nint result, string call, string what)
        => result >= 0 ? result : throw From(call, what, Last);
}
