using System.Collections;
using System.Globalization;
using System.Management.Automation;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>Takes a plain number as seconds, alone or in a list; PowerShell by itself would take it as ticks.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SecondsAttribute : ArgumentTransformationAttribute
{
    // The longest that every wait of .NET and of the kernel can take.
    private static readonly TimeSpan s_longest = TimeSpan.FromMilliseconds(int.MaxValue);

    public override object Transform(EngineIntrinsics engineIntrinsics, object inputData)
        => (inputData is PSObject wrapped ? wrapped.BaseObject : inputData) switch
        {
            (sbyte or byte or short or ushort or int or uint or long or ulong or float or double or decimal) and var number
                => TimeSpan.FromSeconds(Convert.ToDouble(number, CultureInfo.InvariantCulture)),
            string text when double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double seconds) =>
                TimeSpan.FromSeconds(seconds),
            IList many => many.Cast<object>().Select(one => Transform(engineIntrinsics, one)).ToArray(),
            _ => inputData,
        };

    /// <summary>Ends a command whose timeout no wait can keep.</summary>
    internal static void CheckTimeout(Cmdlet cmdlet, TimeSpan timeout)
    {
        if ((timeout <= TimeSpan.Zero && timeout != Timeout.InfiniteTimeSpan) || timeout > s_longest)
        {
            var reason = new PSArgumentOutOfRangeException(nameof(timeout), timeout, $"The timeout must be positive, and no more than {(int)s_longest.TotalDays} days.");
            cmdlet.ThrowTerminatingError(new ErrorRecord(reason, "TimeoutOutOfRange", ErrorCategory.InvalidArgument, timeout)
            {
                ErrorDetails = new ErrorDetails(reason.Message)
                {
                    RecommendedAction = "Give a number of seconds or a TimeSpan; use -00:00:00.001 to wait without a limit.",
                },
            });
        }
    }
}
