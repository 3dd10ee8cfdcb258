using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The main stream on its way in: feeds the element reader with what there is, and bodies to their handlers. Its buffer is the only
/// memory that a peer's bytes take, but for a package. Used by one thread only.
/// </summary>
internal sealed class IncomingStream
{
    private const int ReadAheadOfLarge = 4096;
    private const string CompareHandlers =
        "Compare what the handler writes on the source with what it reads on the target: one of them is wrong about the length.";

    private readonly byte[] _buffer = new byte[128 << 10];
    private readonly Stream _source;
    private readonly HandlerWatch _watch;
    private readonly FooterLookout _lookout = new();
    private int _start;
    private int _end;
    private bool _ended;
    private long? _packageEnd;
    private bool _inBody;
    private bool _large;

    private delegate bool Parser(ref WireReader reader);

    /// <summary>Takes what it can of the bytes at hand; true once it has found the end of what it reads.</summary>
    internal delegate bool BodyParser(ref WireReader reader, bool last);

    /// <summary>Begins to read.</summary>
    /// <param name="source">The connection; stays the caller's.</param>
    /// <param name="watch">Knows when the driver waits.</param>
    /// <param name="first">What was read of it already.</param>
    internal IncomingStream(Stream source, HandlerWatch watch, ReadOnlySpan<byte> first)
    {
        _source = source;
        _watch = watch;
        first.CopyTo(_buffer);
        _end = first.Length;
    }

    /// <summary>Begins to read a package.</summary>
    /// <param name="package">Its bytes.</param>
    /// <param name="offset">Where it begins in the main stream.</param>
    /// <param name="watch">Knows when its loader waits.</param>
    internal static IncomingStream OfPackage(MemoryStream package, long offset, HandlerWatch watch)
        => new(package, watch, []) { Offset = offset, _packageEnd = offset + package.Length };

    /// <summary>The offset of the next byte, in the main stream.</summary>
    internal long Offset { get; private set; }

    /// <summary>True if this is a package, in which nothing may reach beyond its end.</summary>
    internal bool IsPackage => _packageEnd is not null;

    /// <summary>How much of the package is left; null in the main stream.</summary>
    internal long? PackageLeft => _packageEnd - Offset;

    /// <summary>Says while the peer cannot be expected to send anything.</summary>
    internal Func<bool>? MayBeSilent { get; init; }

    /// <summary>How long was waited for bytes.</summary>
    internal TimeSpan Waited { get; private set; }

    /// <summary>The section that is being read, for errors.</summary>
    internal string? Section { get; set; }

    /// <summary>The first failure of the stream or of its use.</summary>
    internal Exception? Failure { get; private set; }

    /// <summary>Gets every byte that is taken while it is set.</summary>
    internal Stream? Tap { get; set; }

    /// <summary>Reads magic and version.</summary>
    internal void ReadHeader() => Read(ElementReader.TryReadHeader, "inside its header");

    /// <summary>Reads the element that starts here.</summary>
    internal StreamElement ReadElement()
    {
        StreamElement? element;
        while (!TryReadElement(out element))
        {
            AwaitMore("inside or before an element; the end mark is missing");
        }

        return element;
    }

    /// <summary>The next byte, without taking it; null at the end.</summary>
    internal byte? Peek() => _start < _end || Fill() ? _buffer[_start] : null;

    /// <summary>A handler begins to read the body of its section.</summary>
    internal void BeginBody(uint id)
    {
        _lookout.Begin(id);
        _inBody = true;
    }

    /// <summary>The handler has returned.</summary>
    internal void EndBody() => _inBody = false;

    /// <summary>Reads the footer of a section, which is all that may follow its body.</summary>
    internal void ReadFooter(string section, uint id)
    {
        string? wrong;
        while (!TryReadFooter(id, out wrong))
        {
            AwaitMore($"inside or before the footer of {section}");
        }

        if (wrong is not null)
        {
            throw Fail(StreamException.At(StreamError.FooterMismatch, Offset, $"{wrong} for {section}", section, CompareHandlers));
        }
    }

    /// <summary>Reads bytes of a body, at least one.</summary>
    internal int ReadBody(Span<byte> buffer)
    {
        _watch.Moved();
        if (buffer.IsEmpty)
        {
            return 0;
        }

        if (_start == _end && buffer.Length >= _buffer.Length / 2 && Tap is null && !_ended)
        {
            // What fills the buffer anyway need not go through it.
            int direct = Receive(buffer);
            _large = true;
            Offset += direct;
            LookForFooter(buffer[..direct]);
            return direct > 0 ? direct : throw TruncatedBody();
        }

        if (Peek() is null)
        {
            throw TruncatedBody();
        }

        int count = Math.Min(buffer.Length, _end - _start);
        _buffer.AsSpan(_start, count).CopyTo(buffer);
        LookForFooter(buffer[..count]);
        Take(count);
        return count;
    }

    /// <summary>Reads a body whose end only its parser knows, which may look at what follows.</summary>
    internal void ReadBody(BodyParser parse)
    {
        while (!Parse(parse, _ended))
        {
            if (_ended)
            {
                throw Truncated($"inside the body of {Section}");
            }

            if (_end - _start == _buffer.Length)
            {
                throw Fail(StreamException.At(StreamError.UnknownElement, Offset, $"A record of {Section} is longer than {_buffer.Length:N0} bytes", Section));
            }

            Fill();
        }
    }

    /// <summary>Takes up to <paramref name="count"/> bytes and discards them.</summary>
    /// <returns>How many there were.</returns>
    internal int Skip(int count)
    {
        int left = count;
        while (left > 0 && Peek() is not null)
        {
            int some = Math.Min(left, _end - _start);
            Take(some);
            left -= some;
        }

        return count - left;
    }

    /// <summary>Takes a package of that many bytes, taking only as much memory as has arrived.</summary>
    internal MemoryStream ReadPackage(uint length)
    {
        var package = new MemoryStream();
        while (package.Length < length)
        {
            if (Peek() is null)
            {
                throw Truncated("inside a package");
            }

            int some = (int)Math.Min(length - package.Length, _end - _start);
            package.Write(_buffer.AsSpan(_start, some));
            Take(some);
        }

        package.Position = 0;
        return package;
    }

    /// <summary>Waits for something else than bytes, which has a deadline of its own.</summary>
    internal void Wait(Action wait)
    {
        _watch.BeginWait();
        try
        {
            wait();
        }
        finally
        {
            _watch.EndWait();
        }
    }

    /// <summary>Keeps the first failure.</summary>
    internal Exception Fail(Exception failure)
    {
        Failure ??= failure;
        return failure;
    }

    private bool Parse(BodyParser parse, bool last)
    {
        var reader = WireReader.BigEndian(_buffer.AsSpan(_start, _end - _start), Offset);
        try
        {
            return parse(ref reader, last);
        }
        catch (MigrationOpsException e)
        {
            throw Fail(e);
        }
        finally
        {
            Take(reader.Position);
            _watch.Moved();
        }
    }

    private void Read(Parser parse, string where)
    {
        while (!Parse((ref WireReader reader, bool _) => parse(ref reader), _ended))
        {
            AwaitMore(where);
        }
    }

    // A stream may have a hundred thousand sections: these two make no closure and no text for what is nearly always there.
    private bool TryReadElement([NotNullWhen(true)] out StreamElement? element)
    {
        var reader = WireReader.BigEndian(_buffer.AsSpan(_start, _end - _start), Offset);
        try
        {
            return ElementReader.TryRead(ref reader, out element);
        }
        catch (MigrationOpsException e)
        {
            throw Fail(e);
        }
        finally
        {
            Take(reader.Position);
            _watch.Moved();
        }
    }

    private bool TryReadFooter(uint id, out string? wrong)
    {
        var reader = WireReader.BigEndian(_buffer.AsSpan(_start, _end - _start), Offset);
        bool read = SectionHeaders.TryReadFooterOf(ref reader, id, out wrong);
        Take(reader.Position);
        _watch.Moved();
        return read;
    }

    private void AwaitMore(string where)
    {
        if (_end - _start >= StreamFormat.MaxElement)
        {
            throw Fail(StreamException.At(StreamError.UnknownElement, Offset, $"An element is longer than {StreamFormat.MaxElement:N0} bytes"));
        }

        if (!Fill())
        {
            throw Truncated(where);
        }
    }

    private void Take(int count)
    {
        try
        {
            Tap?.Write(_buffer.AsSpan(_start, count));
        }
        catch (WireException e)
        {
            throw Fail(e);
        }

        _start += count;
        Offset += count;
    }

    private void LookForFooter(ReadOnlySpan<byte> taken)
    {
        if (_inBody)
        {
            _lookout.Look(taken);
        }
    }

    private Exception TruncatedBody() => _inBody && _lookout.ReadOver is { } at
        ? Fail(StreamException.At(StreamError.FooterMismatch, Offset,
            $"LoadState of {Section} read over the section's footer, {at:N0} bytes into the body, up to the end of the stream", Section!, CompareHandlers))
        : Truncated($"inside the body of {Section}");

    private Exception Truncated(string where)
    {
        long end = Offset + (_end - _start);
        return Fail(IsPackage
            ? StreamException.At(StreamError.InvalidPackage, end, $"The package ends inside {Section ?? "an element"}", Section)
            : new StreamException(StreamError.Truncated, $"The stream ends at byte {end:N0}, {where}.",
                action: "Look at the source: it stopped sending. What was loaded so far is not usable.")
            { ByteOffset = end, Section = Section });
    }

    private int ReadSource(Span<byte> buffer)
    {
        while (true)
        {
            try
            {
                return _source.Read(buffer);
            }
            catch (WireException e) when (e.Reason == WireError.Timeout && MayBeSilent?.Invoke() == true)
            {
                // Whom the peer waits for has a deadline.
            }
        }
    }

    private bool Fill()
    {
        if (_ended)
        {
            return false;
        }

        if (_start > 0)
        {
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            (_start, _end) = (0, _end - _start);
        }

        // Among large bodies, what is read ahead of the next one is only copied twice.
        int ahead = _large ? Math.Min(ReadAheadOfLarge, _buffer.Length - _end) : _buffer.Length - _end;
        _large = false;
        _end += Receive(_buffer.AsSpan(_end, ahead));
        return !_ended;
    }

    private int Receive(Span<byte> buffer)
    {
        long begin = Stopwatch.GetTimestamp();
        _watch.BeginWait();
        try
        {
            int count = ReadSource(buffer);
            _ended = count == 0;
            return count;
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            throw Fail(StreamFailure.Of(e, Offset + (_end - _start), Section));
        }
        finally
        {
            _watch.EndWait();
            Waited += Stopwatch.GetElapsedTime(begin);
        }
    }
}

/// <summary>The body of one section, open while its handler is called.</summary>
internal sealed class SectionLoadStream(IncomingStream input, string section) : SaveVmLoadStream
{
    private volatile bool _closed;

    internal IncomingStream Input => input;

    /// <inheritdoc/>
    public override long StreamOffset => input.Offset;

    /// <summary>Ends it: the handler's call is over.</summary>
    internal void Revoke() => _closed = true;

    /// <inheritdoc/>
    public override int Read(Span<byte> buffer)
    {
        if (_closed)
        {
            throw input.Fail(new SaveVmException(SaveVmError.StreamAfterCall,
                $"The handler of {section} read on after its call had ended; the stream is at byte {input.Offset:N0}.")
            { Section = section, ByteOffset = input.Offset });
        }

        return input.ReadBody(buffer);
    }
}
