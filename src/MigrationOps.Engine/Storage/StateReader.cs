using System.Buffers;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Storage;

/// <summary>
/// Reads one device's state from a stream, in the state format or bare, and checks all of it: the framing, the end
/// mark, the digest. Order: header, data (once), rest.
/// </summary>
internal sealed class StateReader : IDisposable
{
    /// <summary>The parts behind the data are small and kept in memory, up to this many bytes together.</summary>
    public const int MaxPartBytes = 16 << 20;

    private readonly Stream _source;
    private readonly string _name;
    private readonly bool _raw;
    private readonly StateCopier _copier;
    private readonly byte[] _structure = new byte[1 + byte.MaxValue];
    private Place _place;
    private string _part = "";
    private long _offset;
    private long _chunks;
    private long _dataChunks;
    private uint _chunkLength;
    private uint _chunkLeft;

    /// <summary>Begins to read.</summary>
    /// <param name="source">Where the state comes from; stays the caller's.</param>
    /// <param name="name">What errors call it.</param>
    /// <param name="raw">True for bare bytes up to the end of the source.</param>
    /// <param name="computeHash">True to compute the SHA-256 on the way and compare it with the stored one.</param>
    /// <param name="progress">Called with the bytes of data so far, on the reading thread.</param>
    /// <param name="cancellationToken">Cancels waits for buffers.</param>
    public StateReader(Stream source, string name, bool raw, bool computeHash, Action<long>? progress = null,
        CancellationToken cancellationToken = default)
    {
        _source = source;
        _name = name;
        _raw = raw;
        _copier = new StateCopier(computeHash, progress, cancellationToken);
    }

    private delegate bool Parser<T>(ref WireReader reader, out T value);

    private enum Place
    {
        Header,
        Data,
        PartName,
        PartData,
    }

    /// <summary>The header; null for bare bytes.</summary>
    public StateHeader? Header { get; private set; }

    /// <summary>The parts behind the data, by name.</summary>
    public Dictionary<string, byte[]> Parts { get; } = [];

    /// <summary>The SHA-256 that the state itself states, or null.</summary>
    public string? StatedSha256
        => Parts.TryGetValue(StatePart.Digest, out byte[]? digest) ? Convert.ToHexStringLower(digest) : null;

    /// <summary>Reads the header and checks that the state is of a kind.</summary>
    /// <param name="kind">The kind that is wanted, or null for any.</param>
    public void ReadHeader(DeviceStateKind? kind)
    {
        if (_raw)
        {
            return;
        }

        var header = Read<StateHeader>(StateHeader.TryRead);
        Header = header;
        Enter(Place.Data);
        if (kind is { } wanted && header.Kind != wanted)
        {
            throw new StateFileException(StateFileError.WrongKind,
                $"'{_name}' holds the state of a {header.Kind} device; {wanted} is wanted.")
            { Target = _name };
        }
    }

    /// <summary>Moves the data, all of it, into a stream.</summary>
    /// <param name="target">Where it goes; stays the caller's.</param>
    public void CopyData(Stream target)
    {
        if (_raw)
        {
            while (_copier.CopyChunk(_source, target, int.MaxValue, static _ => { }) == int.MaxValue)
            {
                // More than 2 GiB: the next stretch.
            }

            return;
        }

        while (BeginChunk() is > 0 and var length)
        {
            if (_copier.CopyChunk(_source, target, length, Advance) < length)
            {
                throw Truncated(0);
            }
        }

        _dataChunks = _chunks;
    }

    /// <summary>Reads what follows the data, to the end of the source, and compares the digest.</summary>
    /// <param name="expectEnd">True if nothing may follow the end mark; a connection may stay open.</param>
    /// <returns>Totals of the data, with the hash that was computed.</returns>
    public StateDigest ReadRest(bool expectEnd)
    {
        if (!_raw)
        {
            ReadParts();
            if (expectEnd && _source.Read(_structure, 0, 1) > 0)
            {
                throw new StateFileException(StateFileError.TrailingBytes,
                    $"'{_name}' has data behind the end of its state at byte {_offset:N0}.")
                { ByteOffset = _offset, Target = _name };
            }
        }

        var digest = _copier.Finish() with { Chunks = _dataChunks };
        if (digest.Sha256 is { } computed && StatedSha256 is { } stated && computed != stated)
        {
            throw new StateFileException(StateFileError.Damaged,
                $"The data of '{_name}' is damaged: its SHA-256 is {computed}, it states {stated}.")
            { Target = _name };
        }

        return digest;
    }

    /// <inheritdoc/>
    public void Dispose() => _copier.Dispose();

    private void ReadParts()
    {
        int total = 0;
        using var digest = new PartsDigest();
        for (Enter(Place.PartName); Read<StatePart>(StatePart.TryRead) is { IsEnd: false } part; Enter(Place.PartName))
        {
            _part = part.Name;
            if (Parts.ContainsKey(_part) || Parts.Count == 64)
            {
                throw Malformed($"part '{_part}' comes twice, or there are more than 64 parts");
            }

            byte[] content = ReadPart(MaxPartBytes - total);
            total += content.Length;
            digest.Add(_part, content);
            Parts.Add(_part, content);
        }

        // A state that was saved with a digest of its data has one of its parts too.
        byte[]? stated = Parts.GetValueOrDefault(StatePart.PartsDigest);
        bool due = stated is not null || (StatedSha256 is not null && !digest.IsEmpty);
        if (due && (stated is null || !digest.Finish().AsSpan().SequenceEqual(stated)))
        {
            throw new StateFileException(StateFileError.Damaged,
                $"The parts of '{_name}' ({string.Join(", ", Parts.Keys)}) are damaged: their SHA-256 is not the one that it states.")
            { Target = _name };
        }
    }

    private byte[] ReadPart(int most)
    {
        Enter(Place.PartData);
        var content = new ArrayBufferWriter<byte>();
        while (BeginChunk() is > 0 and var length)
        {
            if (length > most - content.WrittenCount)
            {
                throw Malformed($"its parts have more than {MaxPartBytes:N0} bytes");
            }

            while (_chunkLeft > 0)
            {
                int count = _source.Read(content.GetSpan()[..(int)Math.Min(_chunkLeft, (uint)content.GetSpan().Length)]);
                content.Advance(count > 0 ? count : throw Truncated(0));
                Advance((uint)count);
            }
        }

        return content.WrittenSpan.ToArray();
    }

    private void Enter(Place place) => (_place, _chunks) = (place, 0);

    // The length of the next chunk; 0 behind the last one.
    private uint BeginChunk()
    {
        _chunkLength = _chunkLeft = Read<ChunkHeader>(ChunkHeader.TryRead).Length;
        _chunks += _chunkLength > 0 ? 1 : 0;
        return _chunkLength;
    }

    private void Advance(uint count)
    {
        _chunkLeft -= count;
        _offset += count;
    }

    // Takes no byte beyond the value, so that the data is still in the source, which may be spliced from.
    private T Read<T>(Parser<T> tryRead)
    {
        int held = 0;
        while (true)
        {
            var reader = WireReader.BigEndian(_structure.AsSpan(0, held), _offset, _name);
            if (tryRead(ref reader, out T value))
            {
                _offset += held;
                return value;
            }

            int size = _place switch
            {
                Place.Header => StateHeader.Size,
                Place.PartName => StatePart.CountBytes(_structure.AsSpan(0, held)),
                _ => ChunkHeader.Size,
            };
            int count = _source.Read(_structure, held, size - held);
            held += count > 0 ? count : throw Truncated(held);
        }
    }

    private StateFileException Truncated(int held)
    {
        long end = _offset + held;
        bool inPart = _place == Place.PartData;
        string where = _place switch
        {
            Place.Header => $"the header has {held} of {StateHeader.Size} bytes",
            Place.PartName => "the list of parts has no end mark",
            _ when _chunkLeft > 0 => $"chunk {_chunks}{(inPart ? $" of part '{_part}'" : "")} at byte "
                + $"{end - (_chunkLength - _chunkLeft) - ChunkHeader.Size:N0} announces {_chunkLength:N0} bytes, {_chunkLength - _chunkLeft:N0} follow",
            _ => inPart ? $"the end mark of part '{_part}' is missing" : $"the end mark is missing after chunk {_chunks}",
        };
        return new StateFileException(StateFileError.Truncated, $"The state in '{_name}' is truncated at byte {end:N0}: {where}.")
        {
            ByteOffset = end,
            Target = _name,
            Section = _place.ToString(),
        };
    }

    private StateFileException Malformed(string why)
        => new(StateFileError.Malformed, $"'{_name}' is malformed: {why}.") { ByteOffset = _offset, Target = _name };
}
