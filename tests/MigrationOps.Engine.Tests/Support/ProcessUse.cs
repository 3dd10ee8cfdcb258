namespace MigrationOps.Engine.Tests.Support;

/// <summary>What this process holds open.</summary>
internal static class ProcessUse
{
    private static readonly string[] OurThreads = ["state hash", "vhost-user back", "vhost-user bac"];

    internal static int Descriptors => Directory.GetFileSystemEntries("/proc/self/fd").Length;

    /// <summary>Threads that the engine starts by name; the runtime's own come and go as they like.</summary>
    internal static int EngineThreads => Directory.GetDirectories("/proc/self/task").Count(IsOurs);

    /// <summary>Waits until a count is at most what it was; handles that only the kernel still closes need a moment.</summary>
    internal static void AssertReturnsTo(int before, Func<int> count, string what)
    {
        int now = 0;
        Waiting.Until(() => (now = count()) <= before, () => $"{what}: {before} before, {now} afterwards");
    }

    private static bool IsOurs(string task)
    {
        try
        {
            string name = File.ReadAllText(Path.Combine(task, "comm")).TrimEnd();
            return OurThreads.Any(name.StartsWith);
        }
        catch (IOException)
        {
            // The thread ended between the listing and the look.
            return false;
        }
    }
}
