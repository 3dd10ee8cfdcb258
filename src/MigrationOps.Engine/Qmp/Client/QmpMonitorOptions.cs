using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qmp;

/// <summary>How a monitor is connected to.</summary>
internal sealed record QmpMonitorOptions
{
    /// <summary>Where it listens: a UNIX socket or a TCP address.</summary>
    internal required Endpoint Endpoint { get; init; }

    /// <summary>TLS, or plaintext beyond this machine.</summary>
    internal TransportSecurity Security { get; init; } = TransportSecurity.Default;

    /// <summary>How long to wait for what.</summary>
    internal QmpTimeouts Timeouts { get; init; } = QmpTimeouts.Default;

    /// <summary>True to refuse commands that can change something.</summary>
    internal bool ReadOnly { get; init; }

    /// <summary>
    /// True to connect for moments only: at most two commands, then the connection is closed, at most once in
    /// <see cref="LeaseInterval"/>. For hosts whose manager connects in the same way.
    /// </summary>
    internal bool Lease { get; init; }

    /// <summary>The shortest time from one lease to the next.</summary>
    internal TimeSpan LeaseInterval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>What manages the VM, if the address does not tell: libvirt behind its proxy, which gets one
    /// command at a time.</summary>
    internal VMManager Manager { get; init; }

    /// <summary>True to ask for the VM's name and state at once, within the first lease if there are leases.</summary>
    internal bool AskName { get; init; }

    /// <summary>True to use out-of-band commands where the monitor offers them.</summary>
    internal bool WantOutOfBand { get; init; } = true;
}
