using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Wire;

/// <summary>
/// Descriptors that arrived and that have not been claimed yet, first come first served. It owns them: what is left when
/// it is disposed is closed.
/// </summary>
internal sealed class FdQueue : IDisposable
{
    private readonly Queue<SafeFileHandle> _handles = new();

    /// <summary>How many wait to be claimed.</summary>
    public int Count => _handles.Count;

    /// <summary>Adds a descriptor, which the queue owns from now on.</summary>
    public void Enqueue(SafeFileHandle handle) => _handles.Enqueue(handle);

    /// <summary>Takes the oldest descriptor; the caller owns it from now on.</summary>
    /// <returns>Null if there is none.</returns>
    public SafeFileHandle? Take() => _handles.TryDequeue(out var handle) ? handle : null;

    /// <summary>Closes what was not claimed.</summary>
    /// <returns>How many these were.</returns>
    public int CloseUnclaimed()
    {
        int count = _handles.Count;
        while (_handles.TryDequeue(out var handle))
        {
            handle.Dispose();
        }

        return count;
    }

    /// <inheritdoc/>
    public void Dispose() => CloseUnclaimed();
}
