namespace MigrationOps.Engine.Tests.Support;

/// <summary>A short-named folder for sockets and files of one test, removed with everything in it.</summary>
internal sealed class TestFolder : IDisposable
{
    internal string Path { get; } = Directory.CreateTempSubdirectory("mo-").FullName;

    /// <summary>Names of everything in it, sorted: what a failure left behind shows here.</summary>
    internal string[] Entries
        => [.. Directory.EnumerateFileSystemEntries(Path, "*", new EnumerationOptions { AttributesToSkip = 0 })
            .Select(entry => System.IO.Path.GetFileName(entry)).Order(StringComparer.Ordinal)];

    /// <summary>The path of something in it.</summary>
    internal string File(string name) => System.IO.Path.Combine(Path, name);

    /// <inheritdoc cref="File"/>
    internal string this[string name] => File(name);

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
