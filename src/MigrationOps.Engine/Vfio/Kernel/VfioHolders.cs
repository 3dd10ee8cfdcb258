namespace MigrationOps.Engine.Vfio;

/// <summary>Who holds the nodes of VFIO open, from /proc. Other users' descriptors are seen by root alone.</summary>
internal static class VfioHolders
{
    private const string NodePrefix = "/dev/vfio/";

    /// <summary>Processes by the node that they hold: "pid (name)".</summary>
    internal static ILookup<string, string> Find(string proc) => Processes(proc)
        .SelectMany(process => Nodes(process).Distinct().Select(node => (Node: node, Holder: Name(process))))
        .ToLookup(h => h.Node, h => h.Holder);

    private static IEnumerable<string> Processes(string proc) => !Directory.Exists(proc) ? []
        : Directory.EnumerateDirectories(proc).Where(p => Path.GetFileName(p).All(char.IsAsciiDigit));

    private static List<string> Nodes(string process)
    {
        var nodes = new List<string>();
        try
        {
            foreach (string fd in Directory.EnumerateFileSystemEntries($"{process}/fd"))
            {
                // The container is shared: who holds it alone holds no device.
                if (new FileInfo(fd).LinkTarget is { } target && target.Contains(NodePrefix, StringComparison.Ordinal)
                    && !target.EndsWith("/vfio/vfio", StringComparison.Ordinal))
                {
                    nodes.Add(target);
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The process has ended, or is another user's.
        }

        return nodes;
    }

    private static string Name(string process)
    {
        string id = Path.GetFileName(process);
        try
        {
            return $"{id} ({File.ReadAllText($"{process}/comm").Trim()})";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return id;
        }
    }
}
