using MigrationOps.Engine.SaveVm;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>The devices that are registered in a runspace; they are forgotten with it.</summary>
internal sealed class SessionRegistry : IDisposable
{
    internal SaveVmRegistry Registry { get; } = new();

    /// <summary>The one of the runspace whose pipeline calls.</summary>
    internal static SaveVmRegistry Current
    {
        get
        {
            var session = RunspaceSession.Current;
            return (session.All<SessionRegistry>() is [var registry, ..] ? registry : session.AddOwned(new SessionRegistry())).Registry;
        }
    }

    /// <summary>An entry as the pipeline sees it.</summary>
    internal static SaveVmRegistration Describe(SaveVmEntry entry) => new()
    {
        IdStr = entry.IdStr,
        InstanceId = entry.InstanceId,
        VersionId = entry.VersionId,
        SectionId = entry.SectionId,
        Priority = entry.Priority,
        Aliases = [.. entry.Aliases.Select(a => a.ToString())],
        Offered = entry.Offered,
        Handlers = entry.Handlers is ScriptHandlers ? "ScriptBlock" : entry.Handlers.GetType().Name,
    };

    public void Dispose()
    {
        foreach (var entry in Registry.Entries)
        {
            Registry.Unregister(entry);
        }
    }
}
