using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>A VFIO device's packets in recorded channels, in their order, and its configuration.</summary>
internal sealed class VfioChannels : IChannelVisitor
{
    private const int BytesPerPacket = 80;

    private readonly PacketOrder<Piece> _order = new();
    private readonly List<Piece> _data = [];
    private readonly byte[] _head = new byte[VfioPacketHeader.Size];
    private readonly string _idStr;
    private readonly uint _instance;
    private readonly MemoryBudget _budget;
    private FileStream _file = null!;
    private (uint Index, Piece Piece, PacketPlace Place)? _config;

    private VfioChannels(string idStr, uint instance, MemoryBudget budget) => (_idStr, _instance, _budget) = (idStr, instance, budget);

    /// <summary>A piece of state in a channel's file.</summary>
    internal readonly record struct Piece(FileStream File, long Offset, long Length);

    /// <summary>The device's data, in order.</summary>
    internal IReadOnlyList<Piece> Data => _data;

    /// <summary>Its configuration, markers included.</summary>
    internal byte[] Config { get; private set; } = [];

    /// <summary>Finds the packets of a device.</summary>
    /// <exception cref="StreamException">A packet is missing, comes twice or is invalid.</exception>
    internal static VfioChannels Collect(IReadOnlyList<FileStream> files, StreamSection device, long pageSize, MemoryBudget budget, TransferScope scope)
    {
        var found = new VfioChannels(device.IdStr, device.InstanceId, budget);
        foreach (var file in files)
        {
            found._file = file;
            file.Position = 0;
            StreamPump.Run(file, new MultifdChannelWalker(found, pageSize), scope, isAgain: true);
        }

        found.ReadConfig();
        return found;
    }

    public void OnInit(ChannelInit init)
    {
    }

    public bool OnRamPacket(in RamPacket packet) => false;

    public void OnPayload(ReadOnlySpan<byte> data)
    {
    }

    public void OnWarning(string warning)
    {
    }

    public void OnDevicePacket(in DeviceStatePacket packet)
    {
        if (packet.InstanceId != _instance || packet.IdStr != _idStr)
        {
            return;
        }

        var place = new PacketPlace(_idStr, Path.GetFileName(_file.Name), packet.Offset);
        VfioPacketHeader.CheckPayload(packet.PayloadSize, place);
        long payload = packet.Offset + DeviceStatePacket.Size;
        int there = RandomAccess.Read(_file.SafeFileHandle, _head, payload);
        var reader = WireReader.BigEndian(_head.AsSpan(0, there));
        if (!VfioPacketHeader.TryRead(ref reader, place, out var header))
        {
            throw new StreamException(StreamError.Truncated, $"{place.Describe(null)}: the channel ends inside the packet's header.") { Section = _idStr };
        }

        _order.Check(header, isDone: false, place);
        _budget.Take(BytesPerPacket, $"the packets of {_idStr}");
        var piece = new Piece(_file, payload + VfioPacketHeader.Size, packet.PayloadSize - VfioPacketHeader.Size);
        _order.Add(header, piece);
        if (header.IsConfig)
        {
            _config = (header.Index, piece, place);
        }

        while (_order.TryGetDue(out var due))
        {
            _order.Take();
            _data.Add(due);
            _order.Advance();
        }
    }

    private void ReadConfig()
    {
        if (!_order.IsConfigDue || _config is not { } config)
        {
            throw _order.FindMissing(_idStr);
        }

        ConfigState.CheckLength(config.Piece.Length, config.Place, config.Index);
        _budget.Take(config.Piece.Length, $"the configuration of {_idStr}");
        byte[] body = new byte[config.Piece.Length];
        RandomAccess.Read(config.Piece.File.SafeFileHandle, body, config.Piece.Offset);
        Config = body[..ConfigState.Parse(body, config.Place).Length];
    }
}
