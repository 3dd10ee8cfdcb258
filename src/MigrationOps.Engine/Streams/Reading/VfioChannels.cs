using System.Buffers.Binary;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>A VFIO device's packets in recorded channels, in the order of their idx, and its configuration.</summary>
internal sealed class VfioChannels : IChannelVisitor
{
    private const int PacketHead = 12 + 256 + 4 + 4;
    private const int StateHead = 12;
    private const uint ConfigFlag = 1;
    private const int BytesPerPacket = 80;
    private const int MaxConfig = 16 << 20;

    private readonly SortedDictionary<uint, Piece> _data = [];
    private readonly byte[] _head = new byte[StateHead];
    private readonly string _idStr;
    private readonly uint _instance;
    private readonly MemoryBudget _budget;
    private FileStream _file = null!;
    private (uint Idx, Piece Piece)? _config;

    private VfioChannels(string idStr, uint instance, MemoryBudget budget) => (_idStr, _instance, _budget) = (idStr, instance, budget);

    /// <summary>A piece of state in a channel's file.</summary>
    internal readonly record struct Piece(FileStream File, long Offset, long Length);

    /// <summary>The device's data, in order.</summary>
    internal IEnumerable<Piece> Data => _data.Values;

    /// <summary>Its configuration, markers included.</summary>
    internal byte[] Config { get; private set; } = [];

    /// <summary>Finds the packets of a device.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidPacket"/> if one is missing, comes twice or cannot be.</exception>
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

    public void OnInit(int id, Guid uuid)
    {
    }

    public bool OnRamPacket(RamPacket packet, ReadOnlySpan<byte> offsets) => false;

    public void OnPayload(ReadOnlySpan<byte> data)
    {
    }

    public void OnDevicePacket(string idStr, uint instanceId, long offset, long payloadLength)
    {
        if (idStr != _idStr || instanceId != _instance)
        {
            return;
        }

        if (payloadLength < StateHead || RandomAccess.Read(_file.SafeFileHandle, _head, offset + PacketHead) != StateHead)
        {
            throw Invalid($"the packet at byte {offset:N0} of {Path.GetFileName(_file.Name)} has {payloadLength} bytes of payload", offset);
        }

        uint version = BinaryPrimitives.ReadUInt32BigEndian(_head);
        uint idx = BinaryPrimitives.ReadUInt32BigEndian(_head.AsSpan(4));
        uint flags = BinaryPrimitives.ReadUInt32BigEndian(_head.AsSpan(8));
        if (version != 0 || (flags & ~ConfigFlag) != 0)
        {
            throw Invalid($"the packet at byte {offset:N0} of {Path.GetFileName(_file.Name)} has version {version} and flags 0x{flags:x}", offset);
        }

        _budget.Take(BytesPerPacket, $"the packets of {_idStr}");
        var piece = new Piece(_file, offset + PacketHead + StateHead, payloadLength - StateHead);
        bool first = flags == ConfigFlag ? _config is null : _data.TryAdd(idx, piece);
        if (!first)
        {
            throw Invalid(flags == ConfigFlag ? "its configuration comes twice" : $"packet {idx} comes twice", offset);
        }

        if (flags == ConfigFlag)
        {
            _config = (idx, piece);
        }
    }

    private void Check()
    {
        uint next = 0;
        foreach (uint idx in _data.Keys)
        {
            if (idx != next++)
            {
                throw Invalid($"packet {next - 1} is missing", null);
            }
        }

        if (_config is not { } config)
        {
            throw Invalid($"its configuration is missing after packet {(long)next - 1}", null);
        }

        if (config.Idx > next)
        {
            throw Invalid($"packet {next} is missing, the last before the configuration is {config.Idx - 1}", null);
        }

        if (config.Idx != next || config.Piece.Length > MaxConfig)
        {
            throw Invalid($"its configuration has idx {config.Idx} and {config.Piece.Length:N0} bytes after {next} packets", config.Piece.Offset);
        }

        _budget.Take(config.Piece.Length, $"the configuration of {_idStr}");
        Config = new byte[config.Piece.Length];
        RandomAccess.Read(config.Piece.File.SafeFileHandle, Config, config.Piece.Offset);
    }

    private StreamException Invalid(string what, long? offset)
        => new(StreamError.InvalidPacket, $"The state of {_idStr} in the channels is broken: {what}.") { ByteOffset = offset, Section = _idStr };
}
