using System.Globalization;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Qmp;

/// <summary>The client that is connected to a monitor, so that QEMU serves no other.</summary>
/// <param name="Pid">Its process id; 0 if it cannot be seen from here.</param>
/// <param name="Program">Its command name.</param>
internal sealed record MonitorHolder(int Pid, string Program)
{
    public override string ToString() => Pid == 0 ? Program : string.Create(CultureInfo.InvariantCulture,
        $"{Program} (pid {Pid}{(Pid == Environment.ProcessId ? ", this process" : "")})");

    /// <summary>
    /// Who is connected to the UNIX socket of a path; null if there is none, or if it is not visible because the server is in
    /// another network namespace.
    /// </summary>
    internal static MonitorHolder? Find(string path)
    {
        for (int look = 0; look < 2; look++)
        {
            if (UnixSocketDiag.TryList() is not { } sockets || ClientsOf(path, sockets) is not { Length: > 0 } clients)
            {
                return null;
            }

            if (SocketOwners.Find(clients) is { } owner)
            {
                return new MonitorHolder(owner.Pid, owner.Program);
            }

            // It may have closed while we looked.
        }

        return new MonitorHolder(0, "a process that is not visible from here");
    }

    // A server's end of a connection carries the path that was listened on. One that waits to be accepted has no inode yet, and
    // one whose client has gone has no peer.
    private static uint[] ClientsOf(string path, IReadOnlyList<UnixSocket> sockets)
    {
        uint file = path.StartsWith('@') ? 0 : InodeOf(path);
        return [.. sockets.Where(socket => !socket.IsListening && socket.Inode != 0 && socket.PeerInode != 0 && socket.Name is { } name
            && (file != 0 ? socket.FileInode == file && Path.GetFileName(name) == Path.GetFileName(path) : name == path))
            .Select(socket => socket.PeerInode)];
    }

    private static uint InodeOf(string path) => PathStatus.TryGetInode(path) is { } inode ? (uint)inode : 0;
}
