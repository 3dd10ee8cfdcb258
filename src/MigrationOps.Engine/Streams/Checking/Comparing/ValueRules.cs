using System.Globalization;

namespace MigrationOps.Engine.Streams;

/// <summary>Values that the loader holds against what the destination has: a difference is a refusal, whatever the guest did.</summary>
internal static class ValueRules
{
    // Fields that the stream has as plain numbers and that the device compares with its properties once they are loaded.
    private static readonly HashSet<(string Device, string Field)> Properties =
    [
        ("e1000e", "subsys"), ("e1000e", "subsys_ven"), ("hpet", "num_timers_save"),
    ];

    internal static void Check(Findings findings, string device, FieldPair pair, DeviceComparer bytes)
    {
        var (path, mine, theirs) = pair;
        if (path.StartsWith(SpaprCapabilities.Prefix, StringComparison.Ordinal))
        {
            SpaprCapabilities.Check(findings, device, path, mine.Number, theirs.Number);
        }

        if (mine.Size is <= 0 or > 8 || mine.Length != theirs.Length || mine.Count != 1)
        {
            if (path == RunStateCheck.FieldName && device == RunStateCheck.DeviceName)
            {
                CheckRunState(findings, device, bytes.Mine(mine));
            }

            return;
        }

        if (theirs.Type.EndsWith(" equal", StringComparison.Ordinal) && mine.Number != theirs.Number)
        {
            findings.Error(device, path, "the value must be the same there", Text(mine), Text(theirs));
        }
        else if (theirs.Type == "int32 le" && Signed(mine) > Signed(theirs))
        {
            findings.Error(device, path, "the value is greater than the destination's own", Text(mine), Text(theirs));
        }
        else if (mine.Number != theirs.Number && Properties.Contains((Layout(device), theirs.Name)))
        {
            findings.Error(device, path, "the device's property must be the same there", Hex(mine), Hex(theirs));
        }
    }

    private static void CheckRunState(Findings findings, string device, byte[] text)
    {
        string state = RunStateCheck.ReadText(text);
        if (!RunStateCheck.CanBeLoaded(state))
        {
            findings.Error(device, RunStateCheck.FieldName, RunStateCheck.IsKnown(state)
                ? "no QEMU takes over a VM in this run state: let it run or pause it, and save again"
                : "there is no such run state", state);
        }
    }

    /// <summary>The layout's name: an idstr is the device's place and that name.</summary>
    private static string Layout(string device)
    {
        string name = device.Split('#')[0].Split(' ')[0];
        return name[(name.LastIndexOf('/') + 1)..];
    }

    private static long Signed(StateNode node) => FieldTypes.Signed(node.Number, node.Size);

    private static string Text(StateNode node) => (FieldTypes.IsInteger(node.Type) && FieldTypes.IsSigned(node.Type) ? Signed(node) : (long)node.Number).ToString(CultureInfo.InvariantCulture);

    private static string Hex(StateNode node) => string.Create(CultureInfo.InvariantCulture, $"0x{node.Number:x4}");
}
