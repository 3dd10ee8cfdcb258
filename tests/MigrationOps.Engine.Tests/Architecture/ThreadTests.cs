using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Architecture;

/// <summary>Threads of the engine have one owner, which names them and keeps what they throw.</summary>
public class ThreadTests
{
    [Fact]
    public void Threads_are_started_in_one_place()
        => Assert.Equal(["Wire/SideThread.cs"], Repository.CodeFiles(Repository.Engine)
            .Where(file => File.ReadAllText(file).Contains("new Thread(", StringComparison.Ordinal))
            .Select(file => Path.GetRelativePath(Repository.Engine, file)));
}
