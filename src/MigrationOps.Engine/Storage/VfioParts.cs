namespace MigrationOps.Engine.Storage;

/// <summary>The parts that every state file of a VFIO device has beside the data.</summary>
internal static class VfioParts
{
    /// <summary>The config state, both markers included.</summary>
    internal const string Config = "vfio-config";

    /// <summary>The section's idstr, NUL, and the instance id in decimal.</summary>
    internal const string Section = "vfio-section";
}
