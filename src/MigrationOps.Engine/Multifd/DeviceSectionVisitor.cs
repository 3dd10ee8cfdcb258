using System.Buffers;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Multifd;

/// <summary>Hands what a walk finds in the sections of VFIO devices to the devices, config states whole.</summary>
internal abstract class DeviceSectionVisitor : StreamVisitor
{
    // A config state that does not end is stopped by the walk at its limit.
    private readonly ArrayBufferWriter<byte> _config = new();

    public override void OnVfioData(StreamSection section, ReadOnlySpan<byte> data) => DeviceOf(section)?.Data(section.Kind, data);

    public override void OnVfioConfig(StreamSection section, ReadOnlySpan<byte> data) => _config.Write(data);

    public override void OnVfioMarker(StreamSection section, VfioMarker marker, long offset, long dataLength)
    {
        switch (marker)
        {
            case VfioMarker.InitDataSent:
                DeviceOf(section)?.InitialDataSent();
                break;
            case VfioMarker.EndOfState when _config.WrittenCount > 0:
                DeviceOf(section)?.Config(_config.WrittenSpan);
                _config.ResetWrittenCount();
                break;
        }
    }

    /// <summary>Who takes what a section holds; null if it is not wanted.</summary>
    protected abstract IDeviceSections? DeviceOf(StreamSection section);
}
