using System.Management.Automation;
using Microsoft.Extensions.Logging;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>What the hosts themselves write into the file of -LogPath.</summary>
internal static partial class OperationLog
{
    /// <summary>A failure. On the console it is an error record, so this goes to the file only.</summary>
    internal static void Failed(ILogger? file, ErrorRecord error)
    {
        if (file is not null)
        {
            LogFailed(file, error.FullyQualifiedErrorId, error.Exception.Message);
        }
    }

    [LoggerMessage(EventId = 100, Level = LogLevel.Error, Message = "{ErrorId}: {Text}")]
    private static partial void LogFailed(ILogger logger, string errorId, string text);
}
