using System.Globalization;
using System.Net;
using System.Net.Sockets;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Wire;

/// <summary>The process at the other end of a UNIX socket.</summary>
/// <param name="Name">Its command name, or null if it cannot be seen from here.</param>
/// <param name="Pid">Its process id; 0 if it lives in another pid namespace.</param>
/// <param name="Uid">Its user id.</param>
internal sealed record PeerProcessInfo(string? Name, int Pid, uint Uid)
{
    private const string ListeningState = "0A";
    private static readonly string[] s_tables = ["/proc/net/tcp", "/proc/net/tcp6"];

    /// <summary>Looks a process up by its credentials.</summary>
    public static PeerProcessInfo Of(PeerCredentials credentials)
        => new(NameOf(credentials.Pid), credentials.Pid, credentials.Uid);

    /// <summary>
    /// The process that listens where this connection leads: by the socket's credentials, or on this host's loopback by the tables of
    /// the kernel. Null where it cannot be seen: on other hosts, and without the rights to look into that process.
    /// </summary>
    /// <param name="connection">A connection that this side has opened; stays the caller's.</param>
    internal static PeerProcessInfo? OfListener(FdStream connection)
    {
        if (connection.Kind != FileKind.Socket)
        {
            return null;
        }

        using var socket = new Socket(new SafeSocketHandle(connection.Handle.DangerousGetHandle(), ownsHandle: false));
        return socket.AddressFamily == AddressFamily.Unix ? Of(SocketCalls.GetPeerCredentials(connection.Handle, connection.Name))
            : socket.RemoteEndPoint is IPEndPoint remote && IPAddress.IsLoopback(remote.Address) ? ListensAt(remote.Port) : null;
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Name ?? "of unknown name"} (pid {Pid}, uid {Uid})";

    private static PeerProcessInfo? ListensAt(int port)
    {
        string suffix = ":" + port.ToString("X4", CultureInfo.InvariantCulture);
        var listening = s_tables.Where(File.Exists).SelectMany(File.ReadLines)
            .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .FirstOrDefault(f => f.Length > 9 && f[3] == ListeningState && f[1].EndsWith(suffix, StringComparison.Ordinal));
        if (listening is null)
        {
            return null;
        }

        uint uid = uint.Parse(listening[7], CultureInfo.InvariantCulture);
        string link = $"socket:[{listening[9]}]";
        int pid = Directory.EnumerateDirectories("/proc")
            .Select(folder => int.TryParse(Path.GetFileName(folder), CultureInfo.InvariantCulture, out int number) ? number : 0)
            .FirstOrDefault(number => number > 0 && Holds(number, link));
        return pid > 0 ? new PeerProcessInfo(NameOf(pid), pid, uid) : null;
    }

    private static bool Holds(int pid, string link)
    {
        try
        {
            return Directory.EnumerateFiles($"/proc/{pid}/fd").Any(fd => new FileInfo(fd).LinkTarget == link);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It has ended, or is another user's: then it is not found.
            return false;
        }
    }

    private static string? NameOf(int pid)
    {
        try
        {
            return pid > 0 ? File.ReadAllText($"/proc/{pid}/comm").TrimEnd() : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It has ended, or /proc hides other users' processes; the name is a convenience.
            return null;
        }
    }
}
