using System.Collections;
using System.Globalization;
using System.Management.Automation;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>Takes a plain number as seconds, alone or in a list; PowerShell by itself would take it as ticks.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SecondsAttribute : ArgumentTransformationAttribute
{
    public override object Transform(EngineIntrinsics engineIntrinsics, object inputData)
        => (inputData is PSObject wrapped ? wrapped.BaseObject : inputData) switch
        {
            int or long or double or decimal => TimeSpan.FromSeconds(Convert.ToDouble(inputData, CultureInfo.InvariantCulture)),
            string text when double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double seconds) =>
                TimeSpan.FromSeconds(seconds),
            IList many => many.Cast<object>().Select(one => Transform(engineIntrinsics, one)).ToArray(),
            _ => inputData,
        };
}
