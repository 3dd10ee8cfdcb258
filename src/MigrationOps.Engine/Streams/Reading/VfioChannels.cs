using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>A VFIO device's packets in recorded channels, in the order of their idx, and its configuration.</summary>
internal sealed class VfioChannels : IChannelVisitor
{
    private const int BytesPerPacket = 80;

    private readonly SortedDictionary<uint, Piece> _data = [];
    private readonly byte[] _head = new byte[VfioPacketHeader.Size];
    private readonly string _idStr;
    private readonly uint _instance;
    private readonly MemoryBudget _budget;
    private FileStream _file = null!;
    private (uint Idx, Piece Piece, PacketPlace Place)? _config;

    private VfioChannels(string idStr, uint instance, MemoryBudget budget) => (_idStr, _instance, _budget) = (idStr, instance, budget);

    /// <summary>A piece of state in a channel's file.</summary>
    internal readonly record struct Piece(FileStream File, long Offset, long Length);

    /// <summary>The device's data, in order.</summary>
    internal IEnumerable<Piece> Data => _data.Values;

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

        found.Check();
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
        long payload = packet.Offset + DeviceStatePacket.Size;
        int there = packet.PayloadSize < VfioPacketHeader.Size ? 0 : RandomAccess.Read(_file.SafeFileHandle, _head, payload);
        var reader = WireReader.BigEndian(_head.AsSpan(0, there));
        if (!VfioPacketHeader.TryRead(ref reader, place, out var header))
        {
            throw place.Fail(StreamError.ShortPacket, $"the packet has {packet.PayloadSize} bytes, its header alone has {VfioPacketHeader.Size}");
        }

        _budget.Take(BytesPerPacket, $"the packets of {_idStr}");
        var piece = new Piece(_file, payload + VfioPacketHeader.Size, packet.PayloadSize - VfioPacketHeader.Size);
        if (!header.IsConfig && !_data.TryAdd(header.Index, piece))
        {
            throw place.Fail(StreamError.DuplicateIndex, "the index is present already", header.Index);
        }

        if (header.IsConfig && _config is { } other)
        {
            throw place.Fail(StreamError.DuplicateConfig, $"a config packet with index {other.Idx} is present already", header.Index);
        }

        if (header.IsConfig)
        {
            _config = (header.Index, piece, place);
        }
    }

    private void Check()
    {
        uint next = 0;
        foreach (uint idx in _data.Keys)
        {
            if (idx != next++)
            {
                throw Missing(next - 1);
            }
        }

        if (_config is not { } config)
        {
            throw new StreamException(StreamError.MissingConfig, $"{_idStr}: the config state is missing after {next} packets.") { Section = _idStr };
        }

        if (config.Idx > next)
        {
            throw Missing(next);
        }

        if (config.Idx < next)
        {
            throw config.Place.Fail(StreamError.ConfigTooEarly, $"the config packet is the last, but packet {next - 1} is present", config.Idx);
        }

        if (config.Piece.Length > ConfigState.Limit)
        {
            throw config.Place.Fail(StreamError.InvalidConfig, $"a config state of {config.Piece.Length:N0} bytes is beyond the limit of {ConfigState.Limit:N0}", config.Idx);
        }

        _budget.Take(config.Piece.Length, $"the configuration of {_idStr}");
        byte[] body = new byte[config.Piece.Length];
        RandomAccess.Read(config.Piece.File.SafeFileHandle, body, config.Piece.Offset);
        Config = body[..ConfigState.Parse(body, config.Place).Length];
    }

    private StreamException Missing(uint index)
        => new(StreamError.MissingPacket, $"{_idStr}: packet {index} is missing.") { Section = _idStr };
}
