using System.Management.Automation;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>The one place where failures become error records.</summary>
internal static class ErrorMap
{
    internal static ErrorRecord ToErrorRecord(Exception failure, object? target)
    {
        if (failure is not MigrationOpsException known)
        {
            return new ErrorRecord(failure, "Unexpected" + failure.GetType().Name, ErrorCategory.NotSpecified, target);
        }

        return new ErrorRecord(known, known.ErrorId, CategoryOf(known.Kind), known.Target ?? target)
        {
            // PowerShell prints the recommendation below the message by itself.
            ErrorDetails = new ErrorDetails(known.Message) { RecommendedAction = CmdletWords.Of(known.RecommendedAction) },
        };
    }

    private static ErrorCategory CategoryOf(FailureKind kind) => kind switch
    {
        FailureKind.InvalidArgument => ErrorCategory.InvalidArgument,
        FailureKind.NotFound => ErrorCategory.ObjectNotFound,
        FailureKind.Connection => ErrorCategory.ConnectionError,
        FailureKind.Timeout => ErrorCategory.OperationTimeout,
        FailureKind.Refused => ErrorCategory.InvalidResult,
        FailureKind.Protocol => ErrorCategory.ProtocolError,
        FailureKind.CorruptData => ErrorCategory.InvalidData,
        FailureKind.Storage => ErrorCategory.WriteError,
        FailureKind.Permission => ErrorCategory.PermissionDenied,
        FailureKind.NotSupported => ErrorCategory.NotImplemented,
        FailureKind.LimitExceeded => ErrorCategory.LimitsExceeded,
        FailureKind.InvalidState => ErrorCategory.InvalidOperation,
        FailureKind.Security => ErrorCategory.SecurityError,
        _ => ErrorCategory.NotSpecified,
    };
}
