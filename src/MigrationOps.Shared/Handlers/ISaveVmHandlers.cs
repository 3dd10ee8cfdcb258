namespace MigrationOps;

/// <summary>
/// What a device does to travel in a migration stream: the counterpart of QEMU's <c>SaveVMHandlers</c>
/// (include/migration/register.h, QEMU 10.0), under the same names. Every handler is optional; a class writes the ones
/// that its device needs, and <see cref="Offered"/> tells the drivers which those are.
/// <para>Who calls: the source driver the Save… handlers and the questions about pending data, the target driver the
/// Load… handlers and the questions about the switchover. On which thread: all calls of one migration come from the
/// driver's one thread, never two at once, unless the handler says otherwise below. A handler reports failure by an
/// exception, where QEMU's returns a negative number; the migration then ends with an error that names the section.</para>
/// <para>A call that neither moves a byte nor returns within the migration's deadline fails the migration. It is then
/// left behind: its stream refuses every later use, and the cleanup is called from another thread although the call has
/// not returned.</para>
/// </summary>
public interface ISaveVmHandlers
{
    /// <summary>Which handlers are offered. Unless a class says otherwise, the ones that it has written itself.</summary>
    SaveVmHandler Offered => SaveVmHandlerSet.ImplementedBy(GetType());

    /// <summary>
    /// Source, after the device has stopped: writes the whole state at once, as the body of a FULL section. For devices
    /// without iteration. Called once, after all iterating devices have completed.
    /// </summary>
    void SaveState(SaveVmSaveStream stream, SaveVmContext context) => throw NotOffered(nameof(SaveState));

    /// <summary>
    /// Source, before the first byte is written: the place to refuse a migration that cannot work. Called once, also for a
    /// device that <see cref="IsActive"/> calls inactive. Throws to refuse.
    /// </summary>
    void SavePrepare(SaveVmContext context) => throw NotOffered(nameof(SavePrepare));

    /// <summary>
    /// Source, once, before the first iteration, while the device runs: prepares what iterating needs and writes the body of the
    /// START section, which may be empty. An iterating device must offer it: the target learns the section's name from START.
    /// </summary>
    void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => throw NotOffered(nameof(SaveSetup));

    /// <summary>
    /// Source, again and again while the device runs: writes a piece of what is pending as the body of a PART section. It
    /// stops when <see cref="SaveVmSaveStream.BudgetExceeded"/> says that the bandwidth of this turn is used up.
    /// </summary>
    /// <returns>False (QEMU's 0) if there is more to send, true (QEMU's 1) if nothing is left for now.</returns>
    bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context) => throw NotOffered(nameof(SaveLiveIterate));

    /// <summary>Source, after every turn of iterations: how much is pending, cheaply. It may be out of date, and should not be too high.</summary>
    PendingBytes StatePendingEstimate(SaveVmContext context) => throw NotOffered(nameof(StatePendingEstimate));

    /// <summary>
    /// Source, only once the estimates of all devices have fallen to what fits into the downtime: how much is really
    /// pending, whatever it costs to find out. A device without it is taken at its estimate.
    /// </summary>
    PendingBytes StatePendingExact(SaveVmContext context) => throw NotOffered(nameof(StatePendingExact));

    /// <summary>
    /// Both sides, before each use: false if the device has nothing to migrate. It then has no sections on the source, no
    /// <see cref="LoadSetup"/> on the target, and is not asked what is pending. Cleanup is called nevertheless.
    /// </summary>
    bool IsActive(SaveVmContext context) => throw NotOffered(nameof(IsActive));

    /// <summary>Source, before each <see cref="SaveLiveIterate"/>: false to be left out of this turn only.</summary>
    bool IsActiveIterate(SaveVmContext context) => throw NotOffered(nameof(IsActiveIterate));

    /// <summary>
    /// Source: true if the device can be finished after the target has started. Asked at the switch to postcopy and before each use
    /// after it; in a migration that stays in pre-copy it is not asked. Such a device is not completed at the switch: it goes
    /// on iterating until <see cref="SaveLiveCompletePostcopy"/>.
    /// </summary>
    bool HasPostcopy(SaveVmContext context) => throw NotOffered(nameof(HasPostcopy));

    /// <summary>
    /// Source, once, after the device has stopped: writes everything that remains as the body of the END section.
    /// </summary>
    void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => throw NotOffered(nameof(SaveLiveCompletePrecopy));

    /// <summary>
    /// Source, at the same moment, on a thread of its own beside the main stream: sends device state in packets over the
    /// multifd channels. Called only in a migration that has multifd channels; without them everything goes through
    /// <see cref="SaveLiveCompletePrecopy"/>. The main stream's FULL sections follow after the thread has returned.
    /// </summary>
    /// <param name="send">
    /// Takes one packet of 1 byte to 16 MiB and copies it; waits while the channels are busy. May be called by one thread at a
    /// time, and not after the handler has returned. Packets overtake each other: what their order means has to be in them.
    /// </param>
    /// <param name="context">The device's part in the migration.</param>
    void SaveLiveCompletePrecopyThread(Action<ReadOnlyMemory<byte>> send, SaveVmContext context)
        => throw NotOffered(nameof(SaveLiveCompletePrecopyThread));

    /// <summary>Source, once, at the end of postcopy: writes the rest of a device that <see cref="HasPostcopy"/> as its END section.</summary>
    void SaveLiveCompletePostcopy(SaveVmSaveStream stream, SaveVmContext context) => throw NotOffered(nameof(SaveLiveCompletePostcopy));

    /// <summary>
    /// Source, once, at the very end, after success, failure and cancellation alike, even if
    /// <see cref="SaveSetup"/> was never called: gives back what setup and iterating took. Its failure is reported as a
    /// warning and keeps no other device from its cleanup.
    /// </summary>
    void SaveCleanup(SaveVmContext context) => throw NotOffered(nameof(SaveCleanup));

    /// <summary>Target, once, after the stream's header and before its first section: prepares what loading needs.</summary>
    void LoadSetup(SaveVmContext context) => throw NotOffered(nameof(LoadSetup));

    /// <summary>Target, once, at the very end, whatever happened, also without <see cref="LoadSetup"/>. Its failure is a warning.</summary>
    void LoadCleanup(SaveVmContext context) => throw NotOffered(nameof(LoadCleanup));

    /// <summary>
    /// Target, for every section of the device (START, PART, END or FULL), in the order of the stream: reads the body to its
    /// last byte and not further. Bodies carry no length; only the device knows where one ends. What follows must be the
    /// section's footer, or the migration fails. In postcopy the state that starts the device is loaded on a thread of its own: it may wait for
    /// what other devices load at the same time, such as pages that it has asked for.
    /// </summary>
    /// <param name="stream">The body.</param>
    /// <param name="context">The device's part in the migration.</param>
    /// <param name="versionId">The version that the source wrote; never above the one that was registered.</param>
    void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId) => throw NotOffered(nameof(LoadState));

    /// <summary>
    /// Target, for every packet of device state from a multifd channel: on any thread, several at once, in any order, also beside
    /// <see cref="LoadState"/>, but never before every <see cref="LoadSetup"/>. A call that waits holds up its channel.
    /// </summary>
    /// <param name="data">The packet; valid during the call.</param>
    /// <param name="context">The device's part in the migration.</param>
    void LoadStateBuffer(ReadOnlyMemory<byte> data, SaveVmContext context) => throw NotOffered(nameof(LoadStateBuffer));

    /// <summary>
    /// Source, when a broken postcopy migration resumes over a new connection: finds out what must be sent again, which the
    /// next iterations then send. A device that <see cref="HasPostcopy"/> and does not offer it makes a migration whose connection is
    /// lost impossible to resume.
    /// </summary>
    void ResumePrepare(SaveVmContext context) => throw NotOffered(nameof(ResumePrepare));

    /// <summary>
    /// Target, once after <see cref="LoadSetup"/>, in a migration with switchover-ack: true if the source must not
    /// stop its device before this one has called <see cref="SaveVmContext.ApproveSwitchover"/>. It is not asked where the source counts the
    /// acknowledgements, <see cref="SwitchoverAckCount.PerDevice"/>: there the source's device asks, with <see cref="PendingBytes.SwitchoverAcks"/>.
    /// </summary>
    bool SwitchoverAckNeeded(SaveVmContext context) => throw NotOffered(nameof(SwitchoverAckNeeded));

    /// <summary>Target, when the source says that its device has stopped and only the last state follows.</summary>
    void SwitchoverStart(SaveVmContext context) => throw NotOffered(nameof(SwitchoverStart));

    private NotSupportedException NotOffered(string handler)
        => new($"{GetType().Name} does not offer {handler}; the drivers do not call what is not in {nameof(Offered)}.");
}
