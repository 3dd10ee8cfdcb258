using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>Packets of one device, in groups that come in reverse order.</summary>
internal sealed class DevicePacketStream(int group, int size) : MemoryStream
{
    private readonly byte[] _packet = new byte[DeviceStatePacket.Size + VfioPacketHeader.Size + size];
    private int _packets;
    private int _sent = int.MaxValue;

    public override int Read(Span<byte> buffer)
    {
        if (_sent >= _packet.Length)
        {
            int index = (_packets / group * group) + group - 1 - (_packets % group);
            DeviceStatePacket.Write(_packet, "d/vfio", 0, VfioPacketHeader.Size + size);
            VfioPacketHeader.For((uint)index, false).Write(_packet.AsSpan(DeviceStatePacket.Size));
            _packets++;
            _sent = 0;
        }

        int count = Math.Min(buffer.Length, _packet.Length - _sent);
        _packet.AsSpan(_sent, count).CopyTo(buffer);
        _sent += count;
        return count;
    }
}
