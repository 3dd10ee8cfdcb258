namespace MigrationOps;

/// <summary>An embedded back-end that Start-VhostBackend started in this process. Disposing it stops it.</summary>
public abstract class EmbeddedVhostBackend : IDisposable
{
    /// <summary>Where it listens.</summary>
    public abstract string SocketPath { get; }

    /// <summary>True until it is stopped.</summary>
    public abstract bool IsRunning { get; }

    /// <summary>Connections that it has accepted.</summary>
    public abstract int Connections { get; }

    /// <summary>Bytes of state that front-ends have saved from it.</summary>
    public abstract long BytesSaved { get; }

    /// <summary>Bytes of state that front-ends have loaded into it.</summary>
    public abstract long BytesLoaded { get; }

    /// <summary>What it does wrong, on order; "None" for nothing.</summary>
    public abstract string Fault { get; }

    /// <summary>Stops it and removes its socket file.</summary>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Stops it.</summary>
    /// <param name="disposing">True when called by <see cref="Dispose()"/>.</param>
    protected abstract void Dispose(bool disposing);
}
