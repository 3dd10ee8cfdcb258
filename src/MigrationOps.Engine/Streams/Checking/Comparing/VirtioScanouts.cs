using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>The screens of a virtio-gpu: their number must be the same.</summary>
internal static class VirtioScanouts
{
    internal const string FieldType = "virtio-gpu";

    internal static void Check(Findings findings, string device, string path, byte[] mine, byte[] theirs)
    {
        if (GpuScreens.Count(mine) is { } screens && GpuScreens.Count(theirs) is { } screensThere && screens != screensThere)
        {
            findings.Error(device, $"{path}.max_outputs", "the number of screens must be the same there", $"{screens}", $"{screensThere}");
        }
    }
}
