namespace MigrationOps;

/// <summary>A relay that Start-MigrationRelay started in this process, and the migration that it carries. Disposing it stops it.</summary>
public abstract class RelayedMigration : IDisposable
{
    /// <summary>What the source migrates to.</summary>
    public abstract string Uri { get; }

    /// <summary>The same, as libvirt's migrateuri spells it.</summary>
    public abstract string LibvirtUri { get; }

    /// <summary>Where the target listens. Another address counts for the connections that come from then on.</summary>
    public abstract string Target { get; set; }

    /// <summary>How far the migration has come.</summary>
    public abstract string Phase { get; }

    /// <summary>True while it listens or carries a migration.</summary>
    public abstract bool IsRunning { get; }

    /// <summary>True once every byte of the main stream has been given to the target's system.</summary>
    public abstract bool Delivered { get; }

    /// <summary>True once the target has said that it has everything, and the source's system has been given that.</summary>
    public abstract bool Acknowledged { get; }

    /// <summary>The number in the target's last word, SHUT: 0 for success; null if it has not said it.</summary>
    public abstract long? TargetResult { get; }

    /// <summary>SWITCHOVER_ACK messages that were passed on.</summary>
    public abstract int SwitchoverAcks { get; }

    /// <summary>RESUME_ACK messages that were passed on.</summary>
    public abstract int ResumeAcks { get; }

    /// <summary>Machine type of the source; null until it is known, and inside TLS that is passed through.</summary>
    public abstract string? Machine { get; }

    /// <summary>Bytes passed on to the target.</summary>
    public abstract long Bytes { get; }

    /// <summary>The connections, the main one first.</summary>
    public abstract RelayedChannel[] Channels { get; }

    /// <summary>The folder of the archive, which is there once the migration is whole; null without one.</summary>
    public abstract string? Archive { get; }

    /// <summary>The faults that have struck, in order.</summary>
    public abstract string[] Struck { get; }

    /// <summary>What was accepted though it should not be.</summary>
    public abstract string[] Warnings { get; }

    /// <summary>Why the migration ended before its time; null if it did not.</summary>
    public abstract string? Error { get; }

    /// <summary>The stable name of that error.</summary>
    public abstract string? ErrorId { get; }

    /// <summary>What to do about it.</summary>
    public abstract string? RecommendedAction { get; }

    /// <summary>Passes on everything that a fault holds.</summary>
    public abstract void Release();

    /// <summary>Closes every connection, on both sides.</summary>
    public abstract void Break();

    /// <summary>Passes nothing on any more, and keeps everything open, until <see cref="Release"/>.</summary>
    public abstract void Blackhole();

    /// <summary>Stops it, and removes its socket file.</summary>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Stops it.</summary>
    /// <param name="disposing">True when called by <see cref="Dispose()"/>.</param>
    protected abstract void Dispose(bool disposing);
}

/// <summary>One connection of a relayed migration.</summary>
public sealed class RelayedChannel
{
    /// <summary>main, channel 0, preempt, or connection 1 inside TLS.</summary>
    public string Name { get; set; } = "";

    /// <summary>Bytes passed on to the target.</summary>
    public long Bytes { get; set; }

    /// <summary>Bytes passed on to the source.</summary>
    public long ReturnBytes { get; set; }

    /// <summary>Sections and commands of the main stream, packets of a channel.</summary>
    public long Elements { get; set; }

    /// <inheritdoc/>
    public override string ToString() => Name;
}
