using System.Management.Automation.Runspaces;
using System.Runtime.CompilerServices;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// What lives as long as a runspace and not longer: started back-ends, registries. It is closed when the module is
/// removed or the runspace ends.
/// </summary>
public sealed class RunspaceSession : IDisposable
{
    private static readonly ConditionalWeakTable<Runspace, RunspaceSession> Sessions = [];

    private readonly Lock _gate = new();
    private readonly List<IDisposable> _owned = [];

    /// <summary>The session of the runspace whose pipeline calls.</summary>
    internal static RunspaceSession Current => Sessions.GetValue(Runspace.DefaultRunspace, static runspace =>
    {
        var session = new RunspaceSession();
        runspace.StateChanged += (_, change) =>
        {
            if (change.RunspaceStateInfo.State is RunspaceState.Closed or RunspaceState.Broken)
            {
                session.Dispose();
            }
        };
        return session;
    });

    /// <summary>Closes the session of the runspace that removes the module; the module's script calls it.</summary>
    public static void CloseCurrent()
    {
        if (Runspace.DefaultRunspace is { } runspace && Sessions.TryGetValue(runspace, out var session))
        {
            Sessions.Remove(runspace);
            session.Dispose();
        }
    }

    /// <summary>Adds something to be disposed with the session.</summary>
    internal T AddOwned<T>(T item)
        where T : IDisposable
    {
        lock (_gate)
        {
            _owned.Add(item);
        }

        return item;
    }

    /// <summary>Takes something out of the session; the caller disposes it.</summary>
    internal void Release(IDisposable item)
    {
        lock (_gate)
        {
            _owned.Remove(item);
        }
    }

    /// <summary>What the session owns of a type.</summary>
    internal T[] All<T>()
    {
        lock (_gate)
        {
            return [.. _owned.OfType<T>()];
        }
    }

    /// <summary>Disposes everything that the session owns.</summary>
    public void Dispose()
    {
        IDisposable[] owned;
        lock (_gate)
        {
            owned = [.. _owned];
            _owned.Clear();
        }

        foreach (var item in owned)
        {
            item.Dispose();
        }
    }
}
