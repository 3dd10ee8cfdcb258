namespace MigrationOps;

/// <summary>
/// A connection to a QEMU's monitor that Connect-QemuMonitor made. The runspace that made it owns it, and it is closed with
/// it. What comes out of another process by remoting is a picture of it that can only be read.
/// </summary>
public abstract class QemuMonitor : IDisposable
{
    /// <summary>The name of the VM (-name); null if it has none.</summary>
    public abstract string? Name { get; }

    /// <summary>Where the monitor listens: <c>unix:PATH</c> or <c>tcp:HOST:PORT</c>.</summary>
    public abstract string Uri { get; }

    /// <summary>The path of its socket; null over TCP.</summary>
    public abstract string? Path { get; }

    /// <summary>The process that listens: QEMU, or who opened the socket for it; 0 over TCP.</summary>
    public abstract int ProcessId { get; }

    /// <summary>The version of the QEMU: major.minor.micro.</summary>
    public abstract string Version { get; }

    /// <summary>The distributor's name of the package; empty if there is none.</summary>
    public abstract string Package { get; }

    /// <summary>The protocol capabilities that the monitor offers.</summary>
    public abstract string[] Capabilities { get; }

    /// <summary>What manages the VM, as far as the address tells.</summary>
    public abstract VMManager Manager { get; }

    /// <summary>True if commands that can change something are refused.</summary>
    public abstract bool ReadOnly { get; }

    /// <summary>True if it is connected only while commands run.</summary>
    public abstract bool Lease { get; }

    /// <summary>True while a connection stands; with a lease between commands it does not.</summary>
    public abstract bool IsConnected { get; }

    /// <summary>The VM's state as QEMU called it last (running, paused, inmigrate ...).</summary>
    public abstract string State { get; }

    /// <summary>Closes the connection.</summary>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Closes the connection.</summary>
    /// <param name="disposing">True when called by <see cref="Dispose()"/>.</param>
    protected abstract void Dispose(bool disposing);
}
