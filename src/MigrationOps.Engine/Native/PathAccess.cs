using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>access(2): what this process may do with a path, without opening it.</summary>
internal static partial class PathAccess
{
    private const int Read = 4;
    private const int Write = 2;

    [LibraryImport("libc", EntryPoint = "access", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int AccessNative(string path, int mode);

    /// <summary>False only where the rights are missing; a path that is not there is a matter of its own.</summary>
    internal static bool CanReadAndWrite(string path)
        => AccessNative(path, Read | Write) == 0 || NativeError.Last is not (NativeError.EACCES or NativeError.EPERM);
}
