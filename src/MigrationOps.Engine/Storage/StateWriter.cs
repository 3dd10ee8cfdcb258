using System.Buffers;
using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Storage;

/// <summary>
/// Writes one device's state into a stream, in the state format or bare. Order: data (once), parts, complete.
/// </summary>
internal sealed class StateWriter : IDisposable
{
    private readonly Stream _target;
    private readonly bool _raw;
    private readonly StateCopier _copier;
    private readonly PartsDigest _partsDigest = new();
    private StateDigest? _digest;
    private long _partBytes;

    /// <summary>Begins a state.</summary>
    /// <param name="target">Where it goes; stays the caller's.</param>
    /// <param name="kind">What sort of state it is.</param>
    /// <param name="raw">True for bare bytes without header, chunks and parts.</param>
    /// <param name="computeHash">True to compute the SHA-256 on the way.</param>
    /// <param name="progress">Called with the bytes of data so far, on the writing thread.</param>
    /// <param name="cancellationToken">Cancels waits for buffers.</param>
    public StateWriter(Stream target, DeviceStateKind kind, bool raw, bool computeHash, Action<long>? progress = null,
        CancellationToken cancellationToken = default)
    {
        _target = target;
        _raw = raw;
        _copier = new StateCopier(computeHash, progress, cancellationToken);
        Header = new StateHeader(kind, Guid.NewGuid());
        if (!raw)
        {
            try
            {
                var buffer = new ArrayBufferWriter<byte>(StateHeader.Size);
                Header.Write(buffer);
                target.Write(buffer.WrittenSpan);
            }
            catch
            {
                _copier.Dispose();
                throw;
            }
        }
    }

    /// <summary>The header that was written; its id goes into the manifest.</summary>
    public StateHeader Header { get; }

    /// <summary>Names and sizes of the parts so far.</summary>
    public Dictionary<string, long> Parts { get; } = [];

    /// <summary>Writes everything that the source has, up to its end, as the data.</summary>
    public void WriteToEnd(FdStream source)
    {
        ThrowIfDataEnded();
        _copier.CopyToEnd(source, _target, chunked: !_raw);
    }

    /// <summary>Writes bytes as the next piece of the data. Any number of pieces make up the data.</summary>
    public void WriteData(ReadOnlySpan<byte> data)
    {
        ThrowIfDataEnded();
        while (!data.IsEmpty)
        {
            var piece = data[..Math.Min(data.Length, StateCopier.MaxChunk)];
            _copier.WriteChunk(piece, _target, chunked: !_raw);
            data = data[piece.Length..];
        }
    }

    /// <summary>Ends the data and writes its digest; parts may follow. Further calls give the same answer.</summary>
    public StateDigest EndData()
    {
        if (_digest is null)
        {
            if (!_raw)
            {
                WriteChunkHeader(0);
            }

            _digest = _copier.Finish();
            if (_digest.Value.Sha256 is { } hash)
            {
                WriteDigest(hash);
            }
        }

        return _digest.Value;
    }

    /// <summary>Writes a named part behind the data, such as a config state.</summary>
    /// <param name="name">At most 255 bytes of UTF-8.</param>
    /// <param name="content">Its bytes.</param>
    public void WritePart(string name, ReadOnlySpan<byte> content)
    {
        EndData();
        if (_raw)
        {
            throw new StateFileException(StateFileError.RawNotAllowed, $"Bare bytes have no room for the part '{name}'.");
        }

        byte[] utf8 = Encoding.UTF8.GetBytes(name);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(utf8.Length, 255, nameof(name));
        ArgumentOutOfRangeException.ThrowIfZero(utf8.Length, nameof(name));
        _partBytes += content.Length;
        if (_partBytes > StateReader.MaxPartBytes)
        {
            throw new StateFileException(StateFileError.Malformed,
                $"With part '{name}' the state has {_partBytes:N0} bytes in parts, more than the {StateReader.MaxPartBytes:N0} that can be read.");
        }

        _partsDigest.Add(name, content);
        _target.WriteByte((byte)utf8.Length);
        _target.Write(utf8);
        if (!content.IsEmpty)
        {
            WriteChunkHeader((uint)content.Length);
            _target.Write(content);
        }

        WriteChunkHeader(0);
        Parts.Add(name, content.Length);
    }

    /// <summary>Writes the end mark. The state is complete after it.</summary>
    public StateDigest Complete()
    {
        var digest = EndData();
        if (!_raw)
        {
            if (digest.Sha256 is not null && !_partsDigest.IsEmpty)
            {
                WritePart(StatePart.PartsDigest, _partsDigest.Finish());
            }

            _target.WriteByte(0);
        }

        _target.Flush();
        return digest;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _copier.Dispose();
        _partsDigest.Dispose();
    }

    private void WriteDigest(string hash)
    {
        if (!_raw)
        {
            WritePart(StatePart.Digest, Convert.FromHexString(hash));
        }
    }

    private void WriteChunkHeader(uint length)
    {
        Span<byte> header = stackalloc byte[ChunkHeader.Size];
        ChunkHeader.Write(header, length);
        _target.Write(header);
    }

    private void ThrowIfDataEnded()
    {
        if (_digest is not null)
        {
            throw new InvalidOperationException("The data has ended.");
        }
    }
}
