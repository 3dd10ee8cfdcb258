using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>What poll(2) waits for and reports.</summary>
[Flags]
internal enum PollEvents : short
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>There is something to read, or the end of the stream.</summary>
    Readable = 0x001,

    /// <summary>Something can be written.</summary>
    Writable = 0x004,

    /// <summary>An error is pending.</summary>
    Error = 0x008,

    /// <summary>The other end has gone.</summary>
    Hangup = 0x010,

    /// <summary>The descriptor is not open.</summary>
    Invalid = 0x020,

    /// <summary>The other end of a socket has stopped sending; what it sent before may still be unread.</summary>
    PeerEnded = 0x2000,
}

internal static partial class Poll
{
    [StructLayout(LayoutKind.Sequential)]
    internal struct PollFd
    {
        public int Fd;
        public PollEvents Events;
        public PollEvents Returned;
    }

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static unsafe partial int PollNative(PollFd* fds, nuint count, int timeoutMilliseconds);

    /// <summary>poll(2), restarted when a signal interrupts it with the timeout that the caller recomputes.</summary>
    /// <returns>How many descriptors have events; 0 after the timeout or an interruption.</returns>
    internal static unsafe int Wait(Span<PollFd> fds, int timeoutMilliseconds)
    {
        fixed (PollFd* p = fds)
        {
            int ready = PollNative(p, (nuint)fds.Length, timeoutMilliseconds);
            return ready >= 0 ? ready
                : NativeError.Last == NativeError.EINTR ? 0
                : throw NativeError.From("poll", "waiting for a descriptor", NativeError.Last);
        }
    }
}
