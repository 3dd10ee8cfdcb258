using System.Buffers;
using System.Diagnostics;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The main stream on its way out: collects small writes, counts bytes, and knows how many of them one turn of iterations may
/// send. Used by the driver's thread only.
/// </summary>
internal sealed class OutgoingStream(Stream target, HandlerWatch watch, long origin = 0) : IBufferWriter<byte>
{
    private readonly byte[] _buffer = new byte[64 << 10];
    private int _used;
    private long _flushed = origin;
    private long _turnLimit = long.MaxValue;
    private long _turnEnd = long.MaxValue;

    /// <summary>The offset of the next byte.</summary>
    internal long Position => _flushed + _used;

    /// <summary>The section that is being written, for errors.</summary>
    internal string? Section { get; set; }

    /// <summary>The first failure of the stream or of its use; the migration cannot succeed after it.</summary>
    internal Exception? Failure { get; private set; }

    /// <summary>Bytes left in this turn.</summary>
    internal long RemainingBudget => _turnLimit == long.MaxValue ? long.MaxValue : Math.Max(0, _turnLimit - Position);

    /// <summary>True once the turn's bytes or time are used up.</summary>
    internal bool BudgetExceeded => Position >= _turnLimit || Stopwatch.GetTimestamp() >= _turnEnd;

    /// <summary>Starts a turn.</summary>
    /// <param name="bytes">How many bytes it may send; null for no limit.</param>
    /// <param name="time">How long it may take.</param>
    internal void BeginTurn(long? bytes, TimeSpan time)
    {
        _turnLimit = bytes is { } limit ? Position + limit : long.MaxValue;
        _turnEnd = Stopwatch.GetTimestamp() + (long)(time.TotalSeconds * Stopwatch.Frequency);
    }

    /// <summary>Ends the limits: what is sent while no device runs is not slowed down.</summary>
    internal void EndTurns() => (_turnLimit, _turnEnd) = (long.MaxValue, long.MaxValue);

    /// <summary>A stream into memory whose bytes will become the ones of this one from an offset on.</summary>
    internal OutgoingStream CreatePackageStream(Stream memory, long offset) => new(memory, watch, offset);

    /// <summary>Writes bytes of a body.</summary>
    internal void Write(ReadOnlySpan<byte> bytes)
    {
        watch.Moved();
        if (bytes.Length > _buffer.Length - _used)
        {
            Flush();
        }

        if (bytes.Length >= _buffer.Length)
        {
            Send(bytes);
        }
        else
        {
            bytes.CopyTo(_buffer.AsSpan(_used));
            _used += bytes.Length;
        }
    }

    /// <summary>Sends everything that was written.</summary>
    internal void Flush()
    {
        int count = _used;
        if (count > 0)
        {
            _used = 0;
            Send(_buffer.AsSpan(0, count));
        }
    }

    /// <summary>Keeps the first failure.</summary>
    internal Exception Fail(Exception failure)
    {
        Failure ??= failure;
        return failure;
    }

    /// <inheritdoc/>
    public void Advance(int count) => _used += count;

    /// <inheritdoc/>
    public Memory<byte> GetMemory(int sizeHint = 0)
    {
        Reserve(sizeHint);
        return _buffer.AsMemory(_used);
    }

    /// <inheritdoc/>
    public Span<byte> GetSpan(int sizeHint = 0)
    {
        Reserve(sizeHint);
        return _buffer.AsSpan(_used);
    }

    private void Reserve(int count)
    {
        if (_buffer.Length - _used < Math.Max(1, count))
        {
            Flush();
        }
    }

    private void Send(ReadOnlySpan<byte> bytes)
    {
        watch.BeginWait();
        try
        {
            target.Write(bytes);
            _flushed += bytes.Length;
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            throw Fail(StreamFailure.Of(e, _flushed, Section));
        }
        finally
        {
            watch.EndWait();
        }
    }
}

/// <summary>The body of one section, open while its handler is called.</summary>
internal sealed class SectionSaveStream(OutgoingStream output, string section) : SaveVmSaveStream
{
    private readonly long _start = output.Position;
    private volatile bool _closed;

    /// <inheritdoc/>
    public override long StreamOffset => output.Position;

    /// <inheritdoc/>
    public override long RemainingBudget => output.RemainingBudget;

    /// <inheritdoc/>
    public override bool BudgetExceeded => output.BudgetExceeded;

    /// <summary>Bytes of the body so far.</summary>
    internal long BodyLength => output.Position - _start;

    /// <summary>Ends it: the handler's call is over.</summary>
    internal void Revoke() => _closed = true;

    /// <inheritdoc/>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        if (_closed)
        {
            throw output.Fail(new SaveVmException(SaveVmError.StreamAfterCall,
                $"The handler of {section} wrote {buffer.Length:N0} bytes after its call had ended; the stream is at byte {output.Position:N0}.")
            { Section = section, ByteOffset = output.Position });
        }

        output.Write(buffer);
    }
}
