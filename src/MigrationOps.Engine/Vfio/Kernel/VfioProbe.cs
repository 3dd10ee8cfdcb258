namespace MigrationOps.Engine.Vfio;

/// <summary>Asks an open device what it can do.</summary>
internal static class VfioProbe
{
    /// <summary>Completes what sysfs says of a device with what its driver says; its state does not change.</summary>
    /// <param name="driver">The device; stays the caller's.</param>
    /// <param name="listed">What sysfs says.</param>
    internal static VfioDeviceInfo Ask(IVfioDriver driver, VfioDeviceInfo listed)
    {
        var flags = driver.GetFlags();
        var lacking = flags is null ? new VfioDevice(driver).NotMigratable() : null;
        return listed with
        {
            Probed = true,
            Migratable = flags is not null,
            Usable = flags is not null,
            Reason = lacking?.ErrorId ?? "",
            Message = lacking is null ? "" : $"{lacking.Message} {lacking.RecommendedAction}",
            Flags = Names(flags ?? 0),
            State = flags is null ? "" : VfioDevice.Name(driver.GetState()),
            StopCopySize = flags is null ? null : driver.GetStopCopySize(),
        };
    }

    // A bit that the kernel has and this version does not is shown by its number.
    private static string[] Names(VfioMigrationFlags flags) => [.. Enumerable.Range(0, 64)
        .Where(bit => ((ulong)flags & (1UL << bit)) != 0)
        .Select(bit => (VfioMigrationFlags)(1UL << bit) switch
        {
            VfioMigrationFlags.StopCopy => "STOP_COPY",
            VfioMigrationFlags.P2P => "P2P",
            VfioMigrationFlags.PreCopy => "PRE_COPY",
            _ => $"bit {bit}",
        })];
}
