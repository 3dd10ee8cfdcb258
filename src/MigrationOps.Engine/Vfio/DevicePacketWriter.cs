using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>Cuts the state of one device into packets and puts them into the migration's queue, the config state last.</summary>
internal sealed class DevicePacketWriter(DevicePacketQueue queue, string idStr, uint instanceId, int packetSize) : WriteOnlyStream
{
    private const int DataOffset = DeviceStatePacket.Size + VfioPacketHeader.Size;

    private byte[]? _buffer;
    private int _filled;
    private uint _index;

    internal long Packets => _index;

    protected override void Take(ReadOnlySpan<byte> data)
    {
        while (!data.IsEmpty)
        {
            _buffer ??= queue.Rent(VfioPacketHeader.Size + packetSize);
            int count = Math.Min(packetSize - _filled, data.Length);
            data[..count].CopyTo(_buffer.AsSpan(DataOffset + _filled));
            _filled += count;
            data = data[count..];
            if (_filled == packetSize)
            {
                Flush();
            }
        }
    }

    /// <summary>Puts the packet that is being filled into the queue.</summary>
    public override void Flush()
    {
        if (_filled > 0)
        {
            Put(_buffer!, _filled, isConfig: false);
            _buffer = null;
            _filled = 0;
        }
    }

    /// <summary>Ends the device with its config state.</summary>
    internal void Complete(ReadOnlySpan<byte> config)
    {
        Flush();
        byte[] buffer = queue.Rent(VfioPacketHeader.Size + config.Length);
        config.CopyTo(buffer.AsSpan(DataOffset));
        Put(buffer, config.Length, isConfig: true);
    }

    private void Put(byte[] buffer, int length, bool isConfig)
    {
        DeviceStatePacket.Write(buffer, idStr, instanceId, VfioPacketHeader.Size + length);
        VfioPacketHeader.For(_index++, isConfig).Write(buffer.AsSpan(DeviceStatePacket.Size));
        queue.Put(buffer, DataOffset + length);
    }
}
