using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>What the drivers tell the log.</summary>
internal static partial class SaveVmLog
{
    [LoggerMessage(Level = LogLevel.Information, Message = "Migration: {phase}")]
    internal static partial void Phase(ILogger logger, string phase);

    [LoggerMessage(Level = LogLevel.Debug, Message = "{type} of section {id} ({entry}) at byte {offset}")]
    internal static partial void Section(ILogger logger, SectionKind type, uint id, string entry, long offset);

    [LoggerMessage(Level = LogLevel.Debug, Message = "Round {round}: {bytes} bytes sent, {pending} pending, threshold {threshold}")]
    internal static partial void Round(ILogger logger, int round, long bytes, long pending, long threshold);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{warning}")]
    internal static partial void Warning(ILogger logger, string warning);

    [LoggerMessage(Level = LogLevel.Debug, Message = "The {side} failed: {reason}")]
    internal static partial void Failed(ILogger logger, string side, string reason);
}
