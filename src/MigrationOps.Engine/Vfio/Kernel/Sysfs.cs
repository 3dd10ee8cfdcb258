namespace MigrationOps.Engine.Vfio;

/// <summary>Reads links and attributes of sysfs. A device may go away at any moment: what is not there any more is null.</summary>
internal static class Sysfs
{
    internal static bool Exists(string path) => Directory.Exists(path) || File.Exists(path);

    /// <summary>The folder that a link of sysfs leads to.</summary>
    internal static string? TryResolve(string path)
    {
        try
        {
            return new DirectoryInfo(path) is { LinkTarget: not null } link ? link.ResolveLinkTarget(true)!.FullName : path;
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>The name of what a link leads to: a driver, a group, a bus.</summary>
    internal static string? TryGetLinkName(string path) => new FileInfo(path).LinkTarget is { } target ? Path.GetFileName(target) : null;

    internal static string? TryReadPciId(string device)
        => TryRead($"{device}/vendor") is { } vendor && TryRead($"{device}/device") is { } model ? $"{Hex(vendor)}:{Hex(model)}" : null;

    private static string Hex(string number) => number.StartsWith("0x", StringComparison.Ordinal) ? number[2..] : number;

    private static string? TryRead(string path)
    {
        try
        {
            return File.ReadAllText(path).Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
