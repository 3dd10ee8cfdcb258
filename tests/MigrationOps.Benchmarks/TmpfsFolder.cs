namespace MigrationOps.Benchmarks;

/// <summary>A folder on tmpfs, removed in the end.</summary>
internal sealed class TmpfsFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateDirectory($"/dev/shm/migrationops-{Environment.ProcessId}");

    internal string Path => _folder.FullName;

    internal string File(string name) => System.IO.Path.Combine(_folder.FullName, name);

    public void Dispose() => _folder.Delete(recursive: true);
}
