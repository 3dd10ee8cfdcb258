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
    private readonly StateDecoder _decoder;
    private readonly StateCopier _copier;
    private readonly byte[] _structure = new byte[256];

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
        _decoder = new StateDecoder(name);
        _copier = new StateCopier(computeHash, progress, cancellationToken);
    }

    /// <summary>The header; null for bare bytes.</summary>
    public StateHeader? Header { get; private set; }

    /// <summary>The parts behind the data, by name.</summary>
    public Dictionary<string, byte[]> Parts { get; } = [];

    /// <summary>The SHA-256 that the state itself states, or null.</summary>
    public string? StatedSha256
        => Parts.TryGetValue(StateDecoder.DigestPart, out byte[]? digest) ? Convert.ToHexStringLower(digest) : null;

    /// <summary>Reads the header and checks that the state is of a kind.</summary>
    /// <param name="kind">The kind that is wanted, or null for any.</param>
    public void ReadHeader(DeviceStateKind? kind)
    {
        if (_raw)
        {
            return;
        }

        ReadUntil(StateToken.Header);
        Header = _decoder.Header;
        if (kind is { } wanted && _decoder.Header.Kind != wanted)
        {
            throw new StateFileException(StateFileError.WrongKind,
                $"'{_name}' holds the state of a {_decoder.Header.Kind} device; {wanted} is wanted.")
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

        while (ReadStructure() != StateToken.DataEnd)
        {
            uint length = _decoder.DataRemaining;
            if (length > 0 && _copier.CopyChunk(_source, target, length, _decoder.Skip) < length)
            {
                _decoder.EndOfInput();
            }
        }
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
                ReadOnlySpan<byte> more = _structure.AsSpan(0, 1);
                _decoder.Decode(ref more, out _);
            }
        }

        var digest = _copier.Finish() with { Chunks = _decoder.DataChunks };
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
        while (ReadStructure() != StateToken.End)
        {
            if (Parts.ContainsKey(_decoder.PartName) || Parts.Count == 64)
            {
                throw Malformed($"part '{_decoder.PartName}' comes twice, or there are more than 64 parts");
            }

            var content = new ArrayBufferWriter<byte>();
            StateToken token;
            while ((token = ReadToken(out var data)) != StateToken.PartEnd)
            {
                total += token == StateToken.PartData ? data.Length : 0;
                if (total > MaxPartBytes)
                {
                    throw Malformed($"its parts have more than {MaxPartBytes:N0} bytes");
                }

                content.Write(data);
            }

            digest.Add(_decoder.PartName, content.WrittenSpan);
            Parts.Add(_decoder.PartName, content.WrittenSpan.ToArray());
        }

        // A state that was saved with a digest of its data has one of its parts too.
        byte[]? stated = Parts.GetValueOrDefault(StateDecoder.PartsDigestPart);
        bool due = stated is not null || (StatedSha256 is not null && !digest.IsEmpty);
        if (due && (stated is null || !digest.Finish().AsSpan().SequenceEqual(stated)))
        {
            throw new StateFileException(StateFileError.Damaged,
                $"The parts of '{_name}' ({string.Join(", ", Parts.Keys)}) are damaged: their SHA-256 is not the one that it states.")
            { Target = _name };
        }
    }

    // Reads exactly as much as the next structure needs, so that the bytes of the data are still in the source.
    private StateToken ReadStructure()
    {
        StateToken token;
        do
        {
            token = ReadToken(out _);
        }
        while (token == StateToken.NeedInput && _decoder.DataRemaining == 0);
        return token;
    }

    private void ReadUntil(StateToken wanted)
    {
        while (ReadStructure() != wanted)
        {
            // NeedInput is the only other token before a header.
        }
    }

    private StateToken ReadToken(out ReadOnlySpan<byte> data)
    {
        int want = _decoder.StructureBytesWanted;
        want = want == 0 ? _structure.Length : Math.Min(want, _structure.Length);
        if (_decoder.PartBytesRemaining is > 0 and var left)
        {
            want = (int)Math.Min(left, (uint)_structure.Length);
        }

        int count = _source.Read(_structure, 0, want);
        if (count == 0)
        {
            _decoder.EndOfInput();
        }

        ReadOnlySpan<byte> input = _structure.AsSpan(0, count);
        return _decoder.Decode(ref input, out data);
    }

    private StateFileException Malformed(string why)
        => new(StateFileError.Malformed, $"'{_name}' is malformed: {why}.") { ByteOffset = _decoder.Offset, Target = _name };
}
