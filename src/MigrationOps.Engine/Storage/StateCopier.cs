using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Storage;

/// <summary>What a copy of state data amounted to.</summary>
/// <param name="Bytes">Bytes of raw state.</param>
/// <param name="Chunks">Chunks that carried them; 0 for raw bytes.</param>
/// <param name="Sha256">Their SHA-256 in lower-case hexadecimal; null if it was not asked for.</param>
public readonly record struct StateDigest(long Bytes, long Chunks, string? Sha256);

/// <summary>
/// Moves state data between descriptors and streams: by splice(2) when the bytes need not be seen, else through buffers that a hash thread reads too.
/// </summary>
internal sealed class StateCopier : IDisposable
{
    /// <summary>No chunk that is written is longer; QEMU writes the same.</summary>
    internal const int MaxChunk = 1 << 20;

    // Well below the silence that any peer allows, well above the pause of a writer that is merely scheduled out.
    private static readonly TimeSpan Linger = TimeSpan.FromMilliseconds(10);

    private readonly HashWorker? _hash;
    private readonly Action<long>? _progress;
    private readonly CancellationToken _cancellationToken;
    private readonly byte[] _ownBuffer = [];
    private long _bytes;
    private long _chunks;

    /// <param name="computeHash">True to compute the SHA-256 of everything that is moved.</param>
    /// <param name="progress">Called with the number of bytes so far, on the copying thread; must be quick.</param>
    /// <param name="cancellationToken">Ends the wait for a free buffer.</param>
    internal StateCopier(bool computeHash, Action<long>? progress, CancellationToken cancellationToken)
    {
        _progress = progress;
        _cancellationToken = cancellationToken;
        if (computeHash)
        {
            _hash = new HashWorker();
        }
        else
        {
            _ownBuffer = GC.AllocateUninitializedArray<byte>(HashWorker.BufferSize);
        }
    }

    /// <summary>Copies everything up to the end of the source, as chunks or bare.</summary>
    internal void CopyToEnd(FdStream source, Stream target, bool chunked)
    {
        if (CanSplice(source, target))
        {
            SpliceToEnd(source, (FdStream)target, chunked);
            return;
        }

        Span<byte> header = stackalloc byte[ChunkHeader.Size];
        while (true)
        {
            byte[] buffer = Rent();
            int count = 0;
            try
            {
                count = Fill(source, buffer);
                if (count > 0)
                {
                    if (chunked)
                    {
                        ChunkHeader.Write(header, (uint)count);
                        target.Write(header);
                    }

                    target.Write(buffer, 0, count);
                }
            }
            finally
            {
                Return(buffer, count);
            }

            if (count == 0)
            {
                return;
            }

            Count(count, chunked);
        }
    }

    /// <summary>Copies exactly the bytes that remain of one chunk.</summary>
    /// <returns>How many there were before the source ended; fewer than asked for means that it is truncated.</returns>
    internal long CopyChunk(Stream source, Stream target, uint length, Action<uint> advance)
    {
        bool splice = CanSplice(source, target) && (((FdStream)source).Kind == FileKind.Pipe || ((FdStream)target).Kind == FileKind.Pipe);
        long copied = 0;
        while (copied < length)
        {
            uint left = (uint)(length - copied);
            int count = splice
                ? (int)SpliceSome((FdStream)source, (FdStream)target, Math.Min(left, MaxChunk), (FdStream)source)
                : CopySome(source, target, left);
            if (count == 0)
            {
                break;
            }

            copied += count;
            advance((uint)count);
            Count(count, chunked: false);
        }

        return copied;
    }

    /// <summary>Writes at most <see cref="MaxChunk"/> bytes that are in memory, as one chunk or bare.</summary>
    internal void WriteChunk(ReadOnlySpan<byte> data, Stream target, bool chunked)
    {
        Span<byte> header = stackalloc byte[ChunkHeader.Size];
        if (chunked)
        {
            ChunkHeader.Write(header, (uint)data.Length);
            target.Write(header);
        }

        target.Write(data);
        Count(data.Length, chunked);
        while (_hash is not null && !data.IsEmpty)
        {
            // The hash thread keeps a buffer beyond this call, so the bytes are copied into one of its own.
            byte[] buffer = Rent();
            int count = Math.Min(buffer.Length, data.Length);
            data[..count].CopyTo(buffer);
            data = data[count..];
            Return(buffer, count);
        }
    }

    /// <summary>The totals. Call it once, after the last copy.</summary>
    internal StateDigest Finish() => new(_bytes, _chunks, _hash?.Finish());

    public void Dispose() => _hash?.Dispose();

    private bool CanSplice(Stream source, Stream target)
        => _hash is null && source is FdStream { Kind: not FileKind.Other } && target is FdStream { Kind: not FileKind.Other };

    // By way of a pipe of our own: a splice from a pipe into a file holds the pipe's lock while it copies, which would
    // stop whoever writes to it. From pipe to pipe only pages change hands, and what lies in our pipe has a length that
    // can be announced.
    private void SpliceToEnd(FdStream source, FdStream target, bool chunked)
    {
        Span<byte> header = stackalloc byte[ChunkHeader.Size];
        var (read, write) = Pipe.Create();
        Fcntl.TrySetPipeSize(write, MaxChunk);
        using var relayIn = source.Sibling(write, FileAccess.Write);
        using var relayOut = source.Sibling(read, FileAccess.Read);
        while (RelayAvailable(source, relayIn) is > 0 and var length)
        {
            if (chunked)
            {
                ChunkHeader.Write(header, (uint)length);
                target.Write(header);
                _chunks++;
            }

            for (long left = length; left > 0;)
            {
                left -= SpliceSome(relayOut, target, (uint)left, target);
            }

            Count(length, chunked: false);
        }
    }

    // A back-end writes in pieces of its own, often a page or two; a header for each of them would cost more than its
    // bytes. What follows at once goes into the same chunk, but a source that only trickles is not held back for it.
    private static long RelayAvailable(FdStream source, FdStream relay)
    {
        long length = SpliceSome(source, relay, MaxChunk, source);
        var linger = new Deadline(Linger);
        while (length is > 0 and < MaxChunk)
        {
            nint moved = Splice.Once(source.Handle, relay.Handle, (nuint)(MaxChunk - length));
            if (moved > 0)
            {
                length += moved;
            }
            else if (moved == 0 || NativeError.Last != NativeError.EAGAIN || HasUnread(source) || !source.IsReadableUntil(linger) || !HasUnread(source))
            {
                // The end, a failure, a relay without a free slot, or nothing more for now: what is here is a chunk,
                // and the next call meets the rest. A hang-up is readable too, and has nothing unread.
                break;
            }
        }

        return length;
    }

    // splice(2) does not say which end failed. A closed reader or a full disk is the target's; of the rest the caller
    // knows whose it is, because a relay pipe of our own does not fail.
    private static long SpliceSome(FdStream source, FdStream target, uint count, FdStream blamed)
    {
        var deadline = source.StartDeadline();
        while (true)
        {
            source.ThrowIfCancelled();
            nint moved = Splice.Once(source.Handle, target.Handle, count);
            if (moved >= 0)
            {
                return moved;
            }

            int error = NativeError.Last;
            if (error == NativeError.EAGAIN)
            {
                // EAGAIN does not say which end it was; the one that is not ready then makes the wait.
                source.WaitFor(PollEvents.Readable, deadline);
                target.WaitFor(PollEvents.Writable, deadline);
            }
            else if (error == NativeError.EPIPE && HasEnded(source, deadline))
            {
                // Whoever knows the length closes its end after the last byte; that is no failure when none was left.
                return 0;
            }
            else if (error != NativeError.EINTR)
            {
                throw NativeError.From("splice", error == NativeError.EPIPE || NativeError.IsSpace(error) ? target.Name : blamed.Name, error);
            }
        }
    }

    private static bool HasEnded(FdStream source, Deadline deadline)
    {
        source.WaitFor(PollEvents.Readable, deadline);
        return !HasUnread(source);
    }

    private static bool HasUnread(FdStream source)
        => source.Kind == FileKind.Regular
            ? source.Position < source.Length
            : Ioctl.GetReadableBytes(source.Handle, source.Name) > 0;

    private int CopySome(Stream source, Stream target, uint most)
    {
        byte[] buffer = Rent();
        int count = 0;
        try
        {
            count = source.Read(buffer, 0, (int)Math.Min(most, (uint)buffer.Length));
            target.Write(buffer, 0, count);
        }
        finally
        {
            Return(buffer, count);
        }

        return count;
    }

    private static int Fill(Stream source, byte[] buffer)
    {
        int filled = 0;
        while (filled < buffer.Length)
        {
            int count = source.Read(buffer, filled, buffer.Length - filled);
            if (count == 0)
            {
                break;
            }

            filled += count;
        }

        return filled;
    }

    private byte[] Rent() => _hash is null ? _ownBuffer : _hash.Rent(_cancellationToken);

    private void Return(byte[] buffer, int count) => _hash?.Hash(buffer, count);

    private void Count(long count, bool chunked)
    {
        _bytes += count;
        _chunks += chunked ? 1 : 0;
        _progress?.Invoke(_bytes);
    }
}
