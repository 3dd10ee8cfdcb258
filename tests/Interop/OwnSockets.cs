using System.Globalization;

namespace MigrationOps.Interop.Tests;

/// <summary>
/// TCP sockets that this process holds open. Other tests run beside the caller, so it asks for those of one port, not
/// for all descriptors.
/// </summary>
internal static class OwnSockets
{
    /// <summary>Sockets, listening or connected, whose own port is that of a <c>tcp:host:port</c> URI.</summary>
    internal static int CountAtPort(string uri)
    {
        int port = int.Parse(uri.AsSpan(uri.LastIndexOf(':') + 1), CultureInfo.InvariantCulture);
        var inodes = File.ReadLines("/proc/self/net/tcp").Skip(1)
            .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .Where(fields => fields[1].EndsWith($":{port:X4}", StringComparison.Ordinal))
            .Select(fields => $"socket:[{fields[9]}]")
            .ToHashSet();
        return Directory.GetFileSystemEntries("/proc/self/fd").Count(path => new FileInfo(path).LinkTarget is { } link && inodes.Contains(link));
    }
}
