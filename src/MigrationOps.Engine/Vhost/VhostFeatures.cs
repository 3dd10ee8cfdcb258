using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Vhost;

/// <summary>Feature words of vhost-user, and their bits by name.</summary>
internal static class VhostFeatures
{
    /// <summary>Virtio feature bit 30: protocol features may be asked for.</summary>
    public const ulong ProtocolFeatures = 1UL << 30;

    /// <summary>Protocol feature bit 3: a request can ask for an acknowledgement.</summary>
    public const ulong ReplyAck = 1UL << 3;

    /// <summary>Protocol feature bit 0: more than one queue; GET_QUEUE_NUM may be asked.</summary>
    public const ulong MultiQueue = 1UL << 0;

    /// <summary>Protocol feature bit 19: the internal state can be transferred.</summary>
    public const ulong DeviceState = 1UL << 19;

    private static readonly string[] ProtocolNames =
    [
        "MQ", "LOG_SHMFD", "RARP", "REPLY_ACK", "MTU", "BACKEND_REQ", "CROSS_ENDIAN", "CRYPTO_SESSION", "PAGEFAULT", "CONFIG",
        "BACKEND_SEND_FD", "HOST_NOTIFIER", "INFLIGHT_SHMFD", "RESET_DEVICE", "INBAND_NOTIFICATIONS", "CONFIGURE_MEM_SLOTS",
        "STATUS", "XEN_MMAP", "SHARED_OBJECT", "DEVICE_STATE",
    ];

    // Bit 26 is vhost's own: a front-end asks with it that writes to guest memory are logged; no guest sees it.
    private const int LogAll = 26;

    /// <summary>The names of a protocol feature word, lowest bit first; unknown bits as "bit N".</summary>
    public static string[] NamesOfProtocolFeatures(ulong word)
        => Names(word, bit => bit < ProtocolNames.Length ? ProtocolNames[bit] : null);

    /// <summary>The names of a virtio feature word, lowest bit first; device-specific and unknown bits as "bit N".</summary>
    public static string[] NamesOfFeatures(ulong word) => Names(word, bit => bit == LogAll ? "LOG_ALL" : VirtioFeatures.NameOf(bit));

    private static string[] Names(ulong word, Func<int, string?> name)
        => [.. Enumerable.Range(0, 64).Where(bit => (word >> bit & 1) != 0).Select(bit => name(bit) ?? $"bit {bit}")];
}
