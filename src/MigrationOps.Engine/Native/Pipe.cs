using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>pipe2(2): both ends close on exec and block; whoever keeps one makes it non-blocking when it needs that.</summary>
internal static partial class Pipe
{
    private const int CloseOnExec = 0x80000;

    [LibraryImport("libc", EntryPoint = "pipe2", SetLastError = true)]
    private static unsafe partial int Pipe2Native(int* ends, int flags);

    internal static unsafe (SafeFileHandle Read, SafeFileHandle Write) Create()
    {
        int* ends = stackalloc int[2];
        NativeError.Check(Pipe2Native(ends, CloseOnExec), "pipe2", "state pipe");
        return (new SafeFileHandle(ends[0], true), new SafeFileHandle(ends[1], true));
    }
}
