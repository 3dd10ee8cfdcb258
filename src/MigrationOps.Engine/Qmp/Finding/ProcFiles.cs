using System.Globalization;
using System.Text;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// Reads /proc. A process may end between two reads and another user's may be hidden: then there is nothing, which is no
/// failure.
/// </summary>
internal static class ProcFiles
{
    /// <summary>The process ids that can be seen.</summary>
    internal static IEnumerable<int> Processes() => Directory.EnumerateDirectories("/proc")
        .Select(path => int.TryParse(Path.GetFileName(path), NumberStyles.None, CultureInfo.InvariantCulture, out int pid) ? pid : 0)
        .Where(pid => pid > 0);

    internal static string? CommandName(int pid) => Read(pid, "comm")?.TrimEnd('\n');

    /// <summary>The program and its arguments; none for a kernel thread.</summary>
    internal static string[] CommandLine(int pid) => Read(pid, "cmdline") is { Length: > 0 } text ? text.TrimEnd('\0').Split('\0') : [];

    /// <summary>When it started, in clock ticks since the boot: with the pid it names one process for ever.</summary>
    internal static long? StartTime(int pid)
        => Read(pid, "stat") is { } stat && stat[(stat.LastIndexOf(')') + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries) is { Length: > 19 } fields
            && long.TryParse(fields[19], NumberStyles.None, CultureInfo.InvariantCulture, out long ticks) ? ticks : null;

    /// <summary>Memory that it has, in RAM and swapped out, in bytes; null if it cannot be seen.</summary>
    internal static long? ResidentBytes(int pid)
    {
        string[] lines = Read(pid, "status")?.Split('\n') ?? [];
        long? Kilobytes(string name) => lines.FirstOrDefault(line => line.StartsWith(name, StringComparison.Ordinal)) is { } line
            && long.TryParse(line[name.Length..].Replace("kB", "", StringComparison.Ordinal).Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out long value) ? value : null;
        return (Kilobytes("VmRSS:") + (Kilobytes("VmSwap:") ?? 0)) << 10;
    }

    internal static string? Executable(int pid) => Link($"/proc/{pid}/exe");

    internal static string? WorkingDirectory(int pid) => Link($"/proc/{pid}/cwd");

    /// <summary>What its descriptors lead to, such as <c>socket:[1234]</c>.</summary>
    internal static IEnumerable<string> DescriptorLinks(int pid) => Descriptors(pid).Select(descriptor => descriptor.Link);

    /// <summary>Its descriptors by number with what they lead to.</summary>
    internal static IEnumerable<(int Number, string Link)> Descriptors(int pid)
    {
        string[] entries;
        try
        {
            entries = Directory.GetFileSystemEntries($"/proc/{pid}/fd");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            yield break;
        }

        foreach (string entry in entries)
        {
            if (Link(entry) is { } link && int.TryParse(Path.GetFileName(entry), NumberStyles.None, CultureInfo.InvariantCulture, out int number))
            {
                yield return (number, link);
            }
        }
    }

    /// <summary>The text of a file below /proc/PID; null if it cannot be read.</summary>
    internal static string? Read(int pid, string file)
    {
        try
        {
            return File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/{file}"), Encoding.UTF8);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string? Link(string path)
    {
        try
        {
            return new FileInfo(path).LinkTarget;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
