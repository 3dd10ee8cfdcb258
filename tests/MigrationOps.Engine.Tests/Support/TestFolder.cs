namespace MigrationOps.Engine.Tests.Support;

/// <summary>A short-named folder for sockets and files of one test, removed with everything in it.</summary>
internal sealed class TestFolder : IDisposable
{
    internal string Path { get; } = Directory.CreateTempSubdirectory("mo-").FullName;

    /// <summary>Names of everything in it, sorted: what a failure left behind shows here.</summary>
    internal string[] Entries
        => [.. Directory.EnumerateFileSystemEntries(Path, "*", new EnumerationOptions { AttributesToSkip = 0 })
            .Select(entry => System.IO.Path.GetFileName(entry)).Order(StringComparer.Ordinal)];

    internal string this[string name] => System.IO.Path.Combine(Path, name);

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
