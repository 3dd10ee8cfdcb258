using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>
/// SIGXFSZ: a write beyond the process's file size limit (<c>ulimit -f</c>) ends the process, unless the signal is taken;
/// the write then fails with EFBIG, which is an error like a full disk.
/// </summary>
internal static class FileSizeSignal
{
    private const PosixSignal FileSizeExceeded = (PosixSignal)25;

    private static readonly Lazy<PosixSignalRegistration> Registration =
        new(() => PosixSignalRegistration.Create(FileSizeExceeded, signal => signal.Cancel = true));

    /// <summary>From now on the limit is an error of the write. Programs that this process starts keep the default.</summary>
    internal static void BecomesError() => _ = Registration.Value;
}
