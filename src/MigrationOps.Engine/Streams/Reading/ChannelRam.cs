using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// The pages in recorded multifd channels, round by round: between two SYNC packets a page comes at most once over all
/// channels, so a round's channels may be taken one after the other.
/// </summary>
internal sealed class ChannelRam : IDisposable
{
    private const int HeadLength = 64;
    private const int NameOffset = HeadLength;
    private const int NameLength = 256;
    private const int OffsetsOffset = NameOffset + NameLength;
    private const int BytesPerPacket = 40;

    // QEMU never ends a channel's zstd frame, and the program may lose its last blocks when a frame breaks off.
    private static ReadOnlySpan<byte> EmptyLastBlock => [1, 0, 0];

    private readonly List<Channel> _channels = [];
    private readonly MemoryBudget _budget;
    private readonly IReadOnlyList<FileStream> _files;
    private readonly TransferScope _scope;
    private bool _indexed;

    internal ChannelRam(IReadOnlyList<FileStream> files, MemoryBudget budget, TransferScope scope)
        => (_files, _budget, _scope) = (files, budget, scope);

    /// <summary>Brings the pages of the next round into the image; false once there is none.</summary>
    internal bool ApplyRound(RamImage image)
    {
        if (!_indexed)
        {
            _indexed = true;
            foreach (var file in _files)
            {
                _channels.Add(new Channel(file, image.PageSize, _budget, _scope));
            }
        }

        bool any = false;
        foreach (var channel in _channels)
        {
            any |= channel.ApplyRound(image);
        }

        return any;
    }

    public void Dispose() => _channels.ForEach(c => c.Dispose());

    private sealed class Channel : IChannelVisitor, IDisposable
    {
        private readonly List<(long Offset, int Normal, int Zero, bool IsSync)> _packets = [];
        private readonly FileStream _file;
        private readonly MemoryBudget _budget;
        private readonly int _pageSize;
        private readonly byte[] _head;
        private readonly byte[] _page;
        private string _compression = "none";
        private Stream? _decoded;
        private int _next;

        internal Channel(FileStream file, int pageSize, MemoryBudget budget, TransferScope scope)
        {
            (_file, _pageSize, _budget) = (file, pageSize, budget);
            _head = new byte[OffsetsOffset + (8 * MultifdChannelWalker.PacketData / pageSize)];
            _page = new byte[pageSize];
            file.Position = 0;
            StreamPump.Run(file, new MultifdChannelWalker(this, pageSize), scope, isAgain: true);
            file.Position = 0;
        }

        public void OnInit(int id, Guid uuid)
        {
        }

        public bool OnRamPacket(RamPacket packet, ReadOnlySpan<byte> offsets)
        {
            _budget.Take(BytesPerPacket, "the list of packets");
            _packets.Add((packet.Offset, packet.Normal, packet.Zero, packet.IsSync));
            if (packet.Compression != "none" && packet.PayloadLength > 0)
            {
                _compression = packet.Compression;
            }

            return false;
        }

        public void OnDevicePacket(string idStr, uint instanceId, long offset, long payloadLength)
        {
        }

        public void OnPayload(ReadOnlySpan<byte> data)
        {
        }

        public void Dispose() => _decoded?.Dispose();

        internal bool ApplyRound(RamImage image)
        {
            bool any = _next < _packets.Count;
            while (_next < _packets.Count)
            {
                var (offset, normal, zero, isSync) = _packets[_next++];
                Apply(image, offset, normal, zero);
                if (isSync)
                {
                    break;
                }
            }

            return any;
        }

        private void Apply(RamImage image, long offset, int normal, int zero)
        {
            if (normal + zero == 0)
            {
                return;
            }

            ReadAt(_head, offset);
            var name = _head.AsSpan(NameOffset, NameLength);
            bool wanted = Encoding.UTF8.GetString(name[..name.IndexOf((byte)0)]) == image.Name;
            for (int i = 0; i < normal; i++)
            {
                // A compressed stream has to be read whole, whatever block the pages belong to.
                if (_compression != "none")
                {
                    ReadDecoded(offset);
                }
                else if (wanted)
                {
                    ReadAt(_page, offset + _head.Length + ((long)i * _pageSize));
                }

                if (wanted)
                {
                    image.Write(PageOffset(i), _page);
                }
            }

            for (int i = normal; wanted && i < normal + zero; i++)
            {
                image.Fill(PageOffset(i), 0);
            }
        }

        private long PageOffset(int index) => (long)BinaryPrimitives.ReadUInt64BigEndian(_head.AsSpan(OffsetsOffset + (8 * index)));

        private void ReadAt(byte[] destination, long offset)
        {
            if (RandomAccess.Read(_file.SafeFileHandle, destination, offset) != destination.Length)
            {
                throw new StreamException(StreamError.Truncated, $"{Path.GetFileName(_file.Name)} ends inside the packet at byte {offset:N0}.") { ByteOffset = offset };
            }
        }

        private void ReadDecoded(long offset)
        {
            _decoded ??= Decode();
            try
            {
                _decoded.ReadExactly(_page);
            }
            catch (Exception e) when (e is InvalidDataException or EndOfStreamException)
            {
                throw new StreamException(StreamError.InvalidPacket,
                    $"{Path.GetFileName(_file.Name)}: the packet at byte {offset:N0} cannot be decompressed ({_compression}): {e.Message}", e)
                { ByteOffset = offset };
            }
        }

        private Stream Decode()
        {
            var payload = new ChannelPayload(_file.Name, _pageSize);
            return _compression switch
            {
                "zlib" => new ZLibStream(payload, CompressionMode.Decompress),
                "zstd" => new Decompressor("zstd", target =>
                {
                    using (payload)
                    {
                        payload.CopyTo(target);
                    }

                    target.Write(EmptyLastBlock);
                }),
                var other => throw new StreamException(StreamError.Decompression, $"The pages are compressed with {other}, for which there is no program.",
                    action: "Record the migration with zlib, zstd or no compression."),
            };
        }
    }
}
