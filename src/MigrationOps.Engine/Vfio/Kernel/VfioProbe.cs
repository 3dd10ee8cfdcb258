namespace MigrationOps.Engine.Vfio;

/// <summary>Asks a device what it can do.</summary>
public static class VfioProbe
{
    /// <summary>Describes a device; its state does not change.</summary>
    /// <param name="driver">The device; stays the caller's.</param>
    public static VfioDeviceInfo Describe(IVfioDriver driver)
    {
        ArgumentNullException.ThrowIfNull(driver);
        var flags = driver.GetFlags();
        return new VfioDeviceInfo
        {
            Path = driver.Path,
            Migratable = flags is not null,
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
