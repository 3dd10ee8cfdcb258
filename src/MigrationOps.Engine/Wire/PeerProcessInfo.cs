using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Wire;

/// <summary>The process at the other end of a UNIX socket.</summary>
/// <param name="Name">Its command name, or null if it cannot be seen from here.</param>
/// <param name="Pid">Its process id; 0 if it lives in another pid namespace.</param>
/// <param name="Uid">Its user id.</param>
public sealed record PeerProcessInfo(string? Name, int Pid, uint Uid)
{
    /// <summary>Looks a process up by its credentials.</summary>
    public static PeerProcessInfo Of(PeerCredentials credentials)
        => new(NameOf(credentials.Pid), credentials.Pid, credentials.Uid);

    /// <inheritdoc/>
    public override string ToString() => $"{Name ?? "of unknown name"} (pid {Pid}, uid {Uid})";

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
