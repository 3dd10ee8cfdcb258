using System.IO.Compression;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// The pages in recorded multifd channels, round by round: between two SYNC packets a page comes at most once over all
/// channels, so a round's channels may be taken one after the other.
/// </summary>
internal sealed class ChannelRam : IDisposable
{
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
            _head = new byte[RamPacket.SizeFor(pageSize)];
            _page = new byte[pageSize];
            file.Position = 0;
            StreamPump.Run(file, new MultifdChannelWalker(this, pageSize), scope, isAgain: true);
            file.Position = 0;
        }

        public void OnInit(ChannelInit init)
        {
        }

        public bool OnRamPacket(in RamPacket packet)
        {
            _budget.Take(BytesPerPacket, "the list of packets");
            _packets.Add((packet.Offset, packet.NormalPages, packet.ZeroPages, packet.Header.IsSync));
            if (packet.Header.Compression != 0 && packet.PayloadLength > 0)
            {
                _compression = packet.Header.CompressionName!;
            }

            return false;
        }

        public void OnWarning(string warning)
        {
        }

        public void OnDevicePacket(in DeviceStatePacket packet)
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
            var reader = WireReader.BigEndian(_head, offset, Path.GetFileName(_file.Name));
            RamPacket.TryRead(ref reader, _pageSize, long.MaxValue, out var packet);
            bool wanted = packet.Block == image.Name;
            for (int i = 0; i < normal; i++)
            {
                // A compressed stream has to be read whole, whatever the block of the pages.
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
                    image.Write((long)packet.PageOffset(i), _page);
                }
            }

            for (int i = normal; wanted && i < normal + zero; i++)
            {
                image.Fill((long)packet.PageOffset(i), 0);
            }
        }

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
                throw new StreamException(StreamError.Decompression,
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
