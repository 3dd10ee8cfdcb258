using System.Globalization;
using System.Management.Automation;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>Shows how far a migration is.</summary>
internal static class MigrationProgress
{
    internal static void Show(IOperationHost host, ProgressRecord progress, QemuMigrationStatus sample)
    {
        progress.StatusDescription = string.Create(CultureInfo.InvariantCulture,
            $"{sample.Status ?? "none"}, pass {sample.Pass ?? 0}, {Mebibytes(sample.RemainingBytes)} left, {Mebibytes(sample.BytesPerSecond)}/s, dirty {Mebibytes(sample.DirtyBytesPerSecond)}/s");
        if (sample is { TotalBytes: > 0 and { } total, RemainingBytes: { } remaining })
        {
            progress.PercentComplete = (int)Math.Clamp(100 - (remaining * 100 / total), 0, 100);
        }

        host.WriteProgress(progress);
    }

    private static string Mebibytes(long? bytes) => string.Create(CultureInfo.InvariantCulture, $"{(bytes ?? 0) / 1048576.0:0.#} MiB");
}
