namespace MigrationOps;

/// <summary>One device's part in one running migration; the same object for all its handlers.</summary>
public abstract class SaveVmContext
{
    /// <summary>The name of the device's sections.</summary>
    public abstract string IdStr { get; }

    /// <summary>The number of the device among those of the same name.</summary>
    public abstract uint InstanceId { get; }

    /// <summary>The version that was registered.</summary>
    public abstract int VersionId { get; }

    /// <summary>True on the side that saves.</summary>
    public abstract bool IsSource { get; }

    /// <summary>Cancelled when the migration is; a handler that takes long looks at it.</summary>
    public abstract CancellationToken CancellationToken { get; }

    /// <summary>Multifd channels beside the main stream; 0 if the migration has none, and then nothing travels in packets.</summary>
    public abstract int MultifdChannels { get; }

    /// <summary>True if this side waits with the switchover, or lets the source wait, until the target's devices have approved it.</summary>
    public abstract bool SwitchoverAck { get; }

    /// <summary>
    /// Target only: says that this device is ready for the switchover. The source gets its acknowledgement once every device
    /// that asked for one has said so, and a second call changes nothing; with <see cref="SwitchoverAckCount.PerDevice"/> each call is one
    /// acknowledgement, of which the source must have asked for as many. Any thread may call it.
    /// </summary>
    /// <exception cref="InvalidOperationException">On the source.</exception>
    public abstract void ApproveSwitchover();

    /// <summary>
    /// Target only: runs a body on a thread of its own, for a device that loads beside the main stream. The migration does not
    /// succeed before the thread has returned; what it throws ends the migration. A device that takes packets and starts such a thread
    /// says by its end that it has everything; without one, everything that the channels carry until the source closes them is
    /// waited for.
    /// </summary>
    /// <param name="body">What runs. Its token is cancelled when the migration fails or is cancelled.</param>
    /// <exception cref="InvalidOperationException">On the source, or after everything has been loaded.</exception>
    public abstract void StartLoadThread(Action<CancellationToken> body);

    /// <summary>
    /// Target only: cancelled once the stream has come to its end mark, or to the start of the device in postcopy, and every multifd
    /// channel has ended, or was silent for too long.
    /// What a load thread has not got by then does not come.
    /// </summary>
    public abstract CancellationToken StreamEnded { get; }

    /// <summary>
    /// Target only, after the switch to postcopy: asks the source for pages, which it then sends before others. Any
    /// thread may call it. While the connection is lost the wish is dropped: what is missing is found out when it is back.
    /// </summary>
    /// <exception cref="InvalidOperationException">On the source, or in a migration that has not switched to postcopy.</exception>
    public abstract void RequestPages(SaveVmPages pages);

    /// <summary>
    /// Source only, inside <see cref="ISaveVmHandlers.ResumePrepare"/>: asks the target which pages of a block have come.
    /// </summary>
    /// <returns>One bit per page, as <see cref="ISaveVmPages.ReceivedPages"/> gives it, filled up to whole 8 bytes.</returns>
    /// <exception cref="InvalidOperationException">Anywhere else.</exception>
    public abstract byte[] ReadReceivedPages(string block);

    /// <summary>In the cleanups: whose the VM is, and with it the device; null before.</summary>
    public abstract MigrationOwner? Owner { get; }
}

/// <summary>How many bytes of a device are still to be sent.</summary>
/// <param name="MustPrecopy">Bytes that must arrive before the target starts.</param>
/// <param name="CanPostcopy">Bytes that may also arrive after it has started.</param>
public readonly record struct PendingBytes(long MustPrecopy, long CanPostcopy = 0)
{
    /// <summary>
    /// How many acknowledgements of the target's device this one asks for from now on, before its own may be stopped: one at the first
    /// answer that knows of it, 0 in the answers after that. The target's device gives them with <see cref="SaveVmContext.ApproveSwitchover"/>.
    /// It counts in a migration with switchover-ack of <see cref="SwitchoverAckCount.PerDevice"/>.
    /// </summary>
    public int SwitchoverAcks { get; init; }

    /// <summary>Both; <see cref="long.MaxValue"/> where the sum is larger.</summary>
    public long Total => Sum(MustPrecopy, CanPostcopy);

    /// <summary>The sum of what two devices have pending; of each number the largest there is, where the sum is larger.</summary>
    public PendingBytes Add(PendingBytes other) => new(Sum(MustPrecopy, other.MustPrecopy), Sum(CanPostcopy, other.CanPostcopy))
    {
        SwitchoverAcks = (int)Math.Clamp((long)SwitchoverAcks + other.SwitchoverAcks, int.MinValue, int.MaxValue),
    };

    // A sum that wraps around is small or negative, and would pass for a device that has next to nothing to send.
    private static long Sum(long a, long b) => (long)Int128.Clamp((Int128)a + b, long.MinValue, long.MaxValue);
}
