namespace MigrationOps.Engine.Qmp;

/// <summary>Why a conversation with a QEMU monitor failed.</summary>
public enum QmpError
{
    /// <summary>Another client is connected to the monitor; QEMU serves one at a time.</summary>
    MonitorBusy,

    /// <summary>The server accepted the connection and sent no greeting, and no other client is seen.</summary>
    NoGreeting,

    /// <summary>What the server sent first is not the greeting of a QEMU monitor.</summary>
    NotAMonitor,

    /// <summary>Bytes that are not a QMP message.</summary>
    InvalidMessage,

    /// <summary>A message of more than 64 MiB.</summary>
    MessageTooLarge,

    /// <summary>QEMU refused qmp_capabilities.</summary>
    NegotiationRefused,

    /// <summary>QEMU has no such command, or it is not allowed in the present state.</summary>
    CommandNotFound,

    /// <summary>QEMU refused the command or failed to carry it out.</summary>
    CommandFailed,

    /// <summary>QEMU did not answer a command in time and does not answer out of band either.</summary>
    NoReply,

    /// <summary>QEMU is alive and did not answer in time: it holds its big lock, as in a switchover or a device load.</summary>
    QemuBusy,

    /// <summary>The connection broke. A command that was on its way may or may not have been carried out.</summary>
    ConnectionLost,

    /// <summary>The QEMU process ended.</summary>
    QemuExited,

    /// <summary>An error that names no command while several were waiting for their answers.</summary>
    UnattributedError,

    /// <summary>A command that can change something, on a monitor that was connected with -ReadOnly.</summary>
    ReadOnly,

    /// <summary>Something that needs a lasting connection, on a monitor that was connected with -Lease.</summary>
    LeaseOnly,

    /// <summary>A monitor that a manager such as libvirt owns.</summary>
    ManagedMonitor,

    /// <summary>The monitor has been disconnected.</summary>
    Disconnected,

    /// <summary>Another QEMU process answers at the address of the monitor.</summary>
    DifferentQemu,

    /// <summary>The event did not come in time.</summary>
    EventTimeout,

    /// <summary>The VM is not found.</summary>
    VMNotFound,

    /// <summary>The VM has no monitor to connect to.</summary>
    NoMonitor,

    /// <summary>An argument that QMP cannot carry.</summary>
    InvalidArgument,

    /// <summary>This QEMU lacks a command or member that is needed.</summary>
    NotSupported,

    /// <summary>A migration is running.</summary>
    MigrationRunning,

    /// <summary>A QEMU process could not be started, or ended before its monitor answered.</summary>
    StartFailed,
}

/// <summary>A failure of a conversation with a QEMU monitor, or of a QEMU process that was started for one.</summary>
public sealed class QmpException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">Why it failed.</param>
    /// <param name="message">What happened: monitor, command, byte offset.</param>
    /// <param name="innerException">The cause, if any.</param>
    /// <param name="action">What to do next, where the general advice for the reason is not enough.</param>
    public QmpException(QmpError reason, string message, Exception? innerException = null, string? action = null)
        : base("Qmp" + reason, KindOf(reason), message, action ?? ActionOf(reason), innerException)
        => Reason = reason;

    /// <summary>Why it failed.</summary>
    public QmpError Reason { get; }

    /// <summary>QEMU's own class of the error (GenericError, DeviceNotFound ...) if QEMU answered with one.</summary>
    public string? QemuClass { get; init; }

    /// <summary>QEMU's own words for people, if QEMU answered with an error. They are not to be parsed.</summary>
    public string? QemuDescription { get; init; }

    private static FailureKind KindOf(QmpError reason) => reason switch
    {
        QmpError.NotAMonitor or QmpError.InvalidMessage or QmpError.UnattributedError => FailureKind.Protocol,
        QmpError.MessageTooLarge => FailureKind.LimitExceeded,
        QmpError.NegotiationRefused or QmpError.CommandFailed => FailureKind.Refused,
        QmpError.CommandNotFound or QmpError.NotSupported => FailureKind.NotSupported,
        QmpError.NoGreeting or QmpError.NoReply or QmpError.QemuBusy or QmpError.EventTimeout => FailureKind.Timeout,
        QmpError.ConnectionLost or QmpError.QemuExited or QmpError.StartFailed => FailureKind.Connection,
        QmpError.VMNotFound or QmpError.NoMonitor => FailureKind.NotFound,
        QmpError.InvalidArgument => FailureKind.InvalidArgument,
        _ => FailureKind.InvalidState,
    };

    private static string ActionOf(QmpError reason) => reason switch
    {
        QmpError.MonitorBusy =>
            "Disconnect the other client, use a lease if it connects only for moments, or give QEMU a second monitor (-qmp).",
        QmpError.NoGreeting =>
            "Check that a QEMU listens there (-qmp unix:PATH,server=on,wait=off) and that no other client is connected.",
        QmpError.NotAMonitor =>
            "Give the socket of a QMP monitor. A human monitor, a guest agent or a serial port does not speak QMP.",
        QmpError.InvalidMessage or QmpError.MessageTooLarge =>
            "Disconnect and connect again. If it comes again, the server is not a QEMU monitor or something changes its bytes.",
        QmpError.NegotiationRefused => "Look at QEMU's answer in the message, and connect again.",
        QmpError.CommandNotFound =>
            "Check the name with 'query-commands'. A QEMU that waits for a migration or its configuration allows only some commands.",
        QmpError.CommandFailed => "Read QEMU's answer in the message; nothing else is known of the reason.",
        QmpError.NoReply =>
            "Check that the QEMU process is not stopped or stuck (its state in /proc/PID/status). What the command did is unknown: query before you repeat it.",
        QmpError.QemuBusy =>
            "Wait and query again; QEMU is alive. The command is queued and will still be carried out. Give a longer timeout for slow switchovers.",
        QmpError.ConnectionLost =>
            "Connect again and query the state (query-status, query-migrate) before you repeat a command that changes something.",
        QmpError.QemuExited => "Look at the log of QEMU or its manager. The guest no longer runs in this process.",
        QmpError.UnattributedError => "Connect again and send the commands one by one.",
        QmpError.ReadOnly => "Connect for writing if the command is meant to change something.",
        QmpError.LeaseOnly => "Connect without a lease, if no manager needs this monitor.",
        QmpError.ManagedMonitor =>
            "Leave this socket to its manager. Ask a domain of libvirt by its name: that goes through libvirt's own virt-qemu-qmp-proxy, and reads only.",
        QmpError.Disconnected => "Connect the monitor again.",
        QmpError.DifferentQemu => "Connect the monitor anew if you mean the new process.",
        QmpError.EventTimeout => "Give a longer timeout. MIGRATION events need the capability 'events', set before the migration starts.",
        QmpError.VMNotFound => "List the VMs of this host for their names.",
        QmpError.NoMonitor => "Start QEMU with -qmp unix:PATH,server=on,wait=off, or use the VM's manager.",
        QmpError.InvalidArgument => "Give a hashtable of texts, numbers, booleans, arrays and hashtables.",
        QmpError.NotSupported => "Use a QEMU that has it; 'query-qmp-schema' tells what this one has.",
        QmpError.MigrationRunning => "Wait until the migration has ended, or cancel it first.",
        _ => "Read the last lines of QEMU's output in the message and correct the command line.",
    };
}
