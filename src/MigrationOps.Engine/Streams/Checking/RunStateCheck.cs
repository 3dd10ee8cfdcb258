using System.Text;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>The state of the VM that section "globalstate" asks the destination to take, and whether a QEMU can.</summary>
internal static class RunStateCheck
{
    internal const string DeviceName = "globalstate";
    internal const string FieldName = "runstate";

    private const int TextOffset = sizeof(uint);
    private const int TextLength = 100;

    // Seen with QEMU 7.2, 10.0 and 11.1: each of the first kind is taken by a QEMU that waits for a migration, each of the
    // second ends it with "invalid runstate transition", and any other text with "invalid parameter value".
    private static readonly string[] Loadable =
    [
        "running", "paused", "prelaunch", "postmigrate", "finish-migrate", "inmigrate", "suspended", "shutdown", "internal-error", "io-error", "watchdog",
        "guest-panicked", "colo",
    ];

    private static readonly string[] Refused = ["debug", "restore-vm", "save-vm"];

    /// <summary>The check; null if the stream has no such section, as those of machine types before 2.4.</summary>
    internal static DeviceStateCheck? Check(StreamContents contents)
    {
        if (contents.FullSections.FirstOrDefault(s => s.Header.IdStr == DeviceName) is not { BodyLength: >= TextOffset + TextLength } section)
        {
            return null;
        }

        var bytes = new byte[TextLength];
        contents.Bytes!.Read(section.Header.BodyOffset + TextOffset, bytes);
        string state = ReadText(bytes);
        const string Action = "QEMU ends the load there. Resume or stop the source VM (cont, stop), so that it has another state, and save it again.";
        return Loadable.Contains(state) ? new DeviceStateCheck("RunState", true, $"the VM was {state}")
            : Refused.Contains(state)
                ? new DeviceStateCheck("RunState", false, $"the VM was in run state '{state}', which no QEMU takes from a stream (invalid runstate transition: inmigrate -> {state})", Action)
                : new DeviceStateCheck("RunState", false, $"'{state}' is not a run state of any QEMU (invalid parameter value)", Action);
    }

    /// <summary>True if a QEMU that waits for a migration goes over to this run state.</summary>
    internal static bool CanBeLoaded(string state) => Loadable.Contains(state);

    /// <summary>True if QEMU has such a run state.</summary>
    internal static bool IsKnown(string state) => Loadable.Contains(state) || Refused.Contains(state);

    /// <summary>The text that fills the field to its first NUL.</summary>
    internal static string ReadText(ReadOnlySpan<byte> bytes)
    {
        int end = bytes.IndexOf((byte)0);
        var text = new StringBuilder();
        foreach (byte b in end < 0 ? bytes : bytes[..end])
        {
            text.Append(b is >= 0x20 and <= 0x7e ? (char)b : '?');
        }

        return text.ToString();
    }
}
