using System.Text;

namespace MigrationOps.Engine.Storage;

/// <summary>What a step of <see cref="StateDecoder"/> found.</summary>
internal enum StateToken
{
    /// <summary>All input is used; more is needed.</summary>
    NeedInput,

    /// <summary>The header is complete.</summary>
    Header,

    /// <summary>Bytes of the device's data.</summary>
    Data,

    /// <summary>The data is complete.</summary>
    DataEnd,

    /// <summary>A part begins; its name is known.</summary>
    Part,

    /// <summary>Bytes of the current part.</summary>
    PartData,

    /// <summary>The current part is complete.</summary>
    PartEnd,

    /// <summary>The end mark; nothing may follow.</summary>
    End,
}

/// <summary>
/// Takes the state format apart, whatever the size of the pieces in which it comes, and never does I/O:
/// header, data in chunks, then parts (u8 name length, name, chunks) until a zero name length.
/// </summary>
internal sealed class StateDecoder
{
    /// <summary>The part that holds the SHA-256 of the data.</summary>
    public const string DigestPart = "sha256";

    /// <summary>The part that holds the SHA-256 of the other parts, names included; there if there are others.</summary>
    public const string PartsDigestPart = "sha256-parts";

    private readonly string _name;
    private readonly byte[] _small = new byte[256];
    private int _filled;
    private int _wanted = StateHeader.Size;
    private Position _position = Position.Header;
    private ChunkDecoder _chunks;

    /// <summary>Creates a decoder at the start of a state.</summary>
    /// <param name="name">What errors call the source.</param>
    public StateDecoder(string name) => _name = name;

    private enum Position
    {
        Header,
        Data,
        PartNameLength,
        PartName,
        PartData,
        End,
    }

    /// <summary>The header, once it was read.</summary>
    public StateHeader Header { get; private set; }

    /// <summary>Bytes of the device's data so far.</summary>
    public long DataBytes { get; private set; }

    /// <summary>Chunks of the device's data so far.</summary>
    public long DataChunks { get; private set; }

    /// <summary>The name of the current part.</summary>
    public string PartName { get; private set; } = "";

    /// <summary>Bytes consumed so far.</summary>
    public long Offset { get; private set; }

    /// <summary>True after the end mark.</summary>
    public bool HasEnded => _position == Position.End;

    /// <summary>Bytes of the current chunk that may be moved past the decoder (see <see cref="Skip"/>); 0 outside of data.</summary>
    public uint DataRemaining => _position == Position.Data ? _chunks.Remaining : 0;

    /// <summary>Bytes of the current chunk of a part that have not been seen.</summary>
    public uint PartBytesRemaining => _position == Position.PartData ? _chunks.Remaining : 0;

    /// <summary>How many bytes the next structure needs at most, so that a reader never takes bytes of the data by accident.</summary>
    public int StructureBytesWanted => _position switch
    {
        Position.Data or Position.PartData => _chunks.HeaderBytesWanted,
        Position.End => 0,
        _ => _wanted - _filled,
    };

    /// <summary>Consumes input up to the next token.</summary>
    /// <param name="input">What there is; on return what was not used.</param>
    /// <param name="data">For <see cref="StateToken.Data"/> and <see cref="StateToken.PartData"/>: bytes, part of the input.</param>
    /// <exception cref="StateFileException">The format is broken; the exception has the offset.</exception>
    public StateToken Decode(scoped ref ReadOnlySpan<byte> input, out ReadOnlySpan<byte> data)
    {
        data = default;
        int before = input.Length;
        try
        {
            return _position switch
            {
                Position.Data => DecodeChunks(ref input, out data, StateToken.Data),
                Position.PartData => DecodeChunks(ref input, out data, StateToken.PartData),
                Position.End => input.IsEmpty ? StateToken.NeedInput : throw Trailing(),
                _ => DecodeSmall(ref input),
            };
        }
        finally
        {
            Offset += before - input.Length;
        }
    }

    /// <summary>Counts bytes of the device's data that were moved past the decoder.</summary>
    /// <param name="count">At most <see cref="DataRemaining"/>.</param>
    public void Skip(uint count)
    {
        _chunks.Advance(count);
        DataBytes += count;
        Offset += count;
    }

    /// <summary>To be called when the source has ended.</summary>
    /// <exception cref="StateFileException"><see cref="StateFileError.Truncated"/> with where and what is missing.</exception>
    public void EndOfInput()
    {
        if (HasEnded)
        {
            return;
        }

        string where = _position switch
        {
            Position.Header => $"the header has {_filled} of {StateHeader.Size} bytes",
            Position.Data or Position.PartData when _chunks.Remaining > 0 =>
                $"{Chunk()} announces {_chunks.ChunkLength:N0} bytes, {_chunks.ChunkLength - _chunks.Remaining:N0} follow",
            Position.Data => $"the end mark is missing after chunk {_chunks.Chunks}",
            Position.PartData => $"the end mark of part '{PartName}' is missing",
            _ => "the list of parts has no end mark",
        };
        throw new StateFileException(StateFileError.Truncated, $"The state in '{_name}' is truncated at byte {Offset:N0}: {where}.")
        {
            ByteOffset = Offset,
            Target = _name,
            Section = _position.ToString(),
        };
    }

    private string Chunk()
    {
        long start = Offset - (_chunks.ChunkLength - _chunks.Remaining) - ChunkDecoder.HeaderSize;
        string owner = _position == Position.PartData ? $" of part '{PartName}'" : "";
        return $"chunk {_chunks.Chunks}{owner} at byte {start:N0}";
    }

    private StateToken DecodeChunks(scoped ref ReadOnlySpan<byte> input, out ReadOnlySpan<byte> data, StateToken token)
    {
        data = _chunks.Decode(ref input);
        if (token == StateToken.Data)
        {
            DataBytes += data.Length;
            DataChunks = _chunks.Chunks;
        }

        if (!data.IsEmpty)
        {
            return token;
        }

        if (!_chunks.HasEnded)
        {
            return StateToken.NeedInput;
        }

        Expect(Position.PartNameLength, 1);
        return token == StateToken.Data ? StateToken.DataEnd : StateToken.PartEnd;
    }

    private StateToken DecodeSmall(scoped ref ReadOnlySpan<byte> input)
    {
        int take = Math.Min(_wanted - _filled, input.Length);
        input[..take].CopyTo(_small.AsSpan(_filled));
        input = input[take..];
        _filled += take;
        if (_position == Position.Header)
        {
            CheckMagic();
        }

        if (_filled < _wanted)
        {
            return StateToken.NeedInput;
        }

        var bytes = _small.AsSpan(0, _filled);
        switch (_position)
        {
            case Position.Header:
                Header = StateHeader.Parse(bytes, _name);
                BeginChunks(Position.Data);
                return StateToken.Header;
            case Position.PartNameLength when bytes[0] == 0:
                _position = Position.End;
                return StateToken.End;
            case Position.PartNameLength:
                Expect(Position.PartName, bytes[0]);
                return DecodeSmall(ref input);
            default:
                PartName = Encoding.UTF8.GetString(bytes);
                BeginChunks(Position.PartData);
                return StateToken.Part;
        }
    }

    // A foreign file is called foreign at its first wrong byte, not truncated because it is shorter than a header.
    private void CheckMagic()
    {
        int count = Math.Min(_filled, StateHeader.Magic.Length);
        if (!_small.AsSpan(0, count).SequenceEqual(StateHeader.Magic[..count]))
        {
            throw new StateFileException(StateFileError.NotAStateFile,
                $"'{_name}' is not a state file: it does not begin with the bytes of one.")
            { ByteOffset = 0, Target = _name };
        }
    }

    private void BeginChunks(Position position)
    {
        _position = position;
        _chunks = default;
    }

    private void Expect(Position position, int bytes)
    {
        _position = position;
        _wanted = bytes;
        _filled = 0;
    }

    private StateFileException Trailing()
        => new(StateFileError.TrailingBytes, $"'{_name}' has data behind the end of its state at byte {Offset:N0}.")
        {
            ByteOffset = Offset,
            Target = _name,
        };
}
