using System.Buffers.Binary;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>What a recorded multifd channel holds.</summary>
internal sealed class ChannelContents(string path, StreamContents stream) : IChannelVisitor
{
    private const int MaxDevices = 4096;

    private RamBlockContents? _block;

    internal string Path { get; } = path;

    internal int Id { get; private set; } = -1;

    internal Guid Uuid { get; private set; }

    internal long Length { get; set; }

    internal long Packets { get; private set; }

    internal long Syncs { get; private set; }

    internal long Pages { get; private set; }

    internal string Compression { get; private set; } = "none";

    internal Dictionary<(string IdStr, uint Instance), DeviceChannelState> Devices { get; } = [];

    internal StreamException? Failure { get; set; }

    public void OnInit(int id, Guid uuid) => (Id, Uuid) = (id, uuid);

    public bool OnRamPacket(RamPacket packet, ReadOnlySpan<byte> offsets)
    {
        Packets++;
        Syncs += packet.IsSync ? 1 : 0;
        if (packet.Compression != "none")
        {
            Compression = packet.Compression;
        }

        if (packet.Block.Length == 0)
        {
            return false;
        }

        var block = Find(packet);
        for (int i = 0; i < packet.Normal + packet.Zero; i++)
        {
            ulong offset = BinaryPrimitives.ReadUInt64BigEndian(offsets[(8 * i)..]);
            if (offset >= (ulong)block.Block.Length || offset % (ulong)stream.PageSize != 0)
            {
                throw Invalid(packet, $"a page at 0x{offset:x} of RAM block '{packet.Block}', which is 0x{block.Block.Length:x} bytes long");
            }

            block.NoteOrder((long)offset, i < packet.Normal ? RamPageKind.Normal : RamPageKind.Fill);
            block.Again += block.Map.Mark((long)offset / stream.PageSize) ? 1 : 0;
        }

        block.Normal += packet.Normal;
        block.Zero += packet.Zero;
        block.Multifd += packet.Normal + packet.Zero;
        Pages += packet.Normal + packet.Zero;
        return false;
    }

    public void OnDevicePacket(string idStr, uint instanceId, long offset, long payloadLength)
    {
        Packets++;
        if (!Devices.TryGetValue((idStr, instanceId), out var state))
        {
            if (Devices.Count == MaxDevices)
            {
                throw new StreamException(StreamError.LimitExceeded, $"The channel has the state of more than {MaxDevices:N0} devices.") { ByteOffset = offset };
            }

            Devices.Add((idStr, instanceId), state = new DeviceChannelState());
        }

        state.Packets++;
        state.Bytes += payloadLength;
    }

    public void OnPayload(ReadOnlySpan<byte> data)
    {
    }

    private RamBlockContents Find(RamPacket packet)
    {
        if (_block?.Block.Name != packet.Block)
        {
            _block = stream.Ram.Find(r => r.Block.Name == packet.Block)
                ?? throw Invalid(packet, $"pages of RAM block '{packet.Block}', which the main stream does not list");
        }

        return _block;
    }

    private static StreamException Invalid(RamPacket packet, string what)
        => new(StreamError.InvalidPacket, $"The packet at byte {packet.Offset:N0} of the channel has {what}.") { ByteOffset = packet.Offset };
}

/// <summary>How much of a device's state came over a channel.</summary>
internal sealed class DeviceChannelState
{
    internal long Packets { get; set; }

    internal long Bytes { get; set; }
}
