namespace MigrationOps.Engine.Tests.Docs;

/// <summary>The checkout that the tests were built from, for tests of its documents.</summary>
internal static class Repository
{
    internal static string Root { get; } = Find();

    private static string Find()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory.FullName, "MigrationOps.sln")))
        {
            directory = directory.Parent ?? throw new InvalidOperationException("The repository's root was not found.");
        }

        return directory.FullName;
    }
}
