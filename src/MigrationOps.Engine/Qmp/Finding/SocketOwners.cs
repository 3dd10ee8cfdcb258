using System.Globalization;

namespace MigrationOps.Engine.Qmp;

/// <summary>Finds the process that has a socket open, by the links in /proc/PID/fd.</summary>
internal static class SocketOwners
{
    /// <summary>The first process that has one of the sockets; null if none can be seen.</summary>
    internal static (int Pid, string Program)? Find(IReadOnlyCollection<uint> inodes)
    {
        var links = inodes.Select(inode => string.Create(CultureInfo.InvariantCulture, $"socket:[{inode}]")).ToHashSet(StringComparer.Ordinal);
        foreach (int pid in ProcFiles.Processes())
        {
            foreach (string link in ProcFiles.DescriptorLinks(pid))
            {
                if (links.Contains(link))
                {
                    return (pid, ProcFiles.CommandName(pid) ?? "a process of unknown name");
                }
            }
        }

        return null;
    }
}
