using System.Runtime.CompilerServices;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>The checkout that the tests were built from, for tests that read its sources and documents.</summary>
internal static class Repository
{
    internal static string Root { get; } = FindRoot();

    internal static string Engine { get; } = Path.Combine(Root, "src", "MigrationOps.Engine");

    /// <summary>The C# files below a folder, without what builds leave there.</summary>
    internal static IEnumerable<string> CodeFiles(string folder) => Directory
        .EnumerateFiles(folder, "*.cs", SearchOption.AllDirectories)
        .Where(file => !file.Split(Path.DirectorySeparatorChar).Any(part => part is "bin" or "obj"));

    private static string FindRoot([CallerFilePath] string here = "")
    {
        // A build that maps paths has none of its own; the output folder then leads up to the solution.
        var folder = new DirectoryInfo(File.Exists(here) ? Path.GetDirectoryName(here)! : AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder.FullName, "MigrationOps.sln")))
        {
            folder = folder.Parent ?? throw new DirectoryNotFoundException("The solution is in no folder above the tests.");
        }

        return folder.FullName;
    }
}
