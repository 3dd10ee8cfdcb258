using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// Walks a migration stream from its first byte to its last without any I/O: bytes go in by <see cref="Feed"/>, what they
/// are comes out at a <see cref="StreamVisitor"/>. The bytes may be cut anywhere. Guest memory is stepped over.
/// <code>
/// magic, version → [configuration] → ( section | command | package )* → EOF → [description] → anything
/// </code>
/// FULL sections carry no length. With the description at hand (see <see cref="StreamDescription"/>) their ends are known;
/// without it a footer is looked for that is followed by something that can follow a footer. Streams of machine types before
/// 2.4, and of <c>-global migration.send-section-footer=off</c>, have no footers; the first section that ends shows it.
/// </summary>
internal sealed class StreamWalker : IByteConsumer
{
    private readonly WalkContext _context;
    private readonly StreamDescription? _description;
    private State _state = State.Header;
    private StreamSection? _section;
    private ISectionBody? _body;
    private long _offset;
    private long _descriptionLeft;

    /// <summary>A walker at a stream's first byte.</summary>
    /// <param name="visitor">Who is told.</param>
    /// <param name="description">The stream's description, if it is known beforehand.</param>
    /// <param name="pageSize">Size of a target page in bytes, if it is known beforehand; the configuration's counts more.</param>
    public StreamWalker(StreamVisitor visitor, StreamDescription? description = null, int? pageSize = null)
    {
        _context = new WalkContext(visitor) { KnownPageSize = pageSize };
        _description = description;
        if (description is not null)
        {
            _context.KnownPageSize = description.PageSize;
        }
    }

    private StreamWalker(WalkContext context)
    {
        _context = context;
        _state = State.Element;
    }

    private enum State
    {
        Header,
        First,
        Element,
        Body,
        Footer,
        AfterEof,
        DescriptionHeader,
        Description,
        Trailing,
    }

    /// <summary>How many bytes have been consumed; the offset of the next one.</summary>
    public long Offset => _offset;

    /// <summary>How many of the next bytes are of no interest; see <see cref="Skipped"/>.</summary>
    public long PendingSkip => _context.PendingSkip;

    /// <summary>The size of the target's pages.</summary>
    public long PageSize => _context.PageSize;

    /// <summary>True once the stream and its description have been read: what follows is the rest of a file or volume.</summary>
    public bool IsDone => _state == State.Trailing;

    /// <summary>True if the size of a page is certain, false if the places of the pages so far only allow it.</summary>
    internal bool IsPageSizeKnown => _context.KnownPageSize is not null;

    /// <summary>True once the EOF byte has been read.</summary>
    public bool ReachedEof => _state >= State.AfterEof;

    /// <summary>True once what follows the EOF byte has been read, so far as it is part of the stream.</summary>
    public bool HasEnded => _state == State.Trailing;

    /// <summary>
    /// True while what is not consumed is looked through for a section's end, or may be what follows the stream's: nothing in it can be
    /// wrong, and whoever sends it may wait for an answer before it sends more.
    /// </summary>
    internal bool IsSearching => (_state is State.Body or State.Footer && _body is EndSearch) || _state >= State.AfterEof;

    /// <summary>A walker for the second channel of postcopy; null before the stream has listed its RAM blocks.</summary>
    internal PreemptWalker? FindPreemptWalker()
        => _context.Sections.Values.FirstOrDefault(entry => entry.Body is RamBody) is { Header: var section, Body: RamBody ram } ? new PreemptWalker(section, ram.Fork()) : null;

    /// <summary>A walker for the connection that continues this stream after a pause in postcopy: it has no header, and starts with a command.</summary>
    internal StreamWalker Resume()
    {
        _context.PendingSkip = 0;
        _context.PackageEnd = -1;
        return new StreamWalker(_context);
    }

    /// <summary>Consumes bytes.</summary>
    /// <param name="data">The bytes from <see cref="Offset"/> on. What is not consumed must be given again, with more after it.</param>
    /// <param name="last">True if these are the stream's last bytes.</param>
    /// <returns>How many bytes were consumed.</returns>
    /// <exception cref="StreamException">The bytes are not a migration stream from here on.</exception>
    public int Feed(ReadOnlySpan<byte> data, bool last = false)
    {
        var reader = WireReader.BigEndian(data, _offset);
        try
        {
            while (Step(ref reader, last))
            {
            }
        }
        finally
        {
            _offset += reader.Position;
        }

        if (last)
        {
            CheckEnd(reader.Offset + reader.Remaining);
        }

        return reader.Position;
    }

    /// <summary>Tells the walker that bytes of <see cref="PendingSkip"/> were stepped over instead of fed.</summary>
    public void Skipped(long count)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, PendingSkip);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        _context.PendingSkip -= count;
        _offset += count;
    }

    private bool Step(ref WireReader reader, bool last)
    {
        if (_context.PendingSkip > 0)
        {
            int count = (int)Math.Min(_context.PendingSkip, reader.Remaining);
            reader.TryReadBytes(count, out _);
            _context.PendingSkip -= count;
            if (_context.PendingSkip > 0)
            {
                return false;
            }
        }

        return _state switch
        {
            State.Header => ReadHeader(ref reader),
            State.First => ReadFirst(ref reader),
            State.Element => ReadElement(ref reader),
            State.Body => ReadBody(ref reader, last),
            State.Footer => ReadFooter(ref reader, last),
            State.AfterEof => ReadAfterEof(ref reader),
            State.DescriptionHeader => ReadDescriptionHeader(ref reader),
            State.Description => ReadDescription(ref reader),
            _ => ReadTrailing(ref reader),
        };
    }

    private bool ReadHeader(ref WireReader reader)
    {
        if (!ElementReader.TryReadHeader(ref reader))
        {
            return false;
        }

        _state = State.First;
        return true;
    }

    private bool ReadFirst(ref WireReader reader)
    {
        if (reader.Remaining == 0)
        {
            return false;
        }

        if (reader.Rest[0] != StreamFormat.Configuration)
        {
            _state = State.Element;
            return true;
        }

        if (!ConfigurationCodec.TryRead(ref reader, out var configuration))
        {
            return false;
        }

        if (configuration.PageBits is { } bits)
        {
            _context.KnownPageSize = 1L << bits;
        }

        _context.IgnoreShared = configuration.Capabilities.Contains(StreamFormat.IgnoreSharedCapability);
        _context.MappedRam = configuration.Capabilities.Contains(StreamFormat.MappedRamCapability);
        _context.Visitor.OnConfiguration(configuration);
        _state = State.Element;
        return true;
    }

    private bool ReadElement(ref WireReader reader)
    {
        if (_context.PackageEnd >= 0 && reader.Offset >= _context.PackageEnd)
        {
            if (reader.Offset > _context.PackageEnd)
            {
                throw WalkContext.Failure(StreamError.InvalidPackage, null, reader.Offset,
                    $"The package ends at byte {_context.PackageEnd:N0}, inside {_section?.Display ?? "an element"}, and the section has not ended");
            }

            _context.Visitor.OnPackageEnd(reader.Offset);
            _context.PackageEnd = -1;
        }

        if (!ElementReader.TryRead(ref reader, out var element))
        {
            return false;
        }

        switch (element)
        {
            case StreamSection section:
                _context.Register(section);
                EnterSection(section);
                return true;
            case SectionPart part:
                EnterSection(_context.Resolve(part));
                return true;
            case StreamCommand command:
                Note(command, reader.Offset);
                return true;
            case StreamEnd end when _context.PackageEnd < 0:
                _context.Visitor.OnEof(end.Offset);
                _state = State.AfterEof;
                return true;
            case StreamEnd when reader.Offset == _context.PackageEnd:
                // QEMU takes a package that ends so.
                return true;
            case StreamEnd:
                throw WalkContext.Failure(StreamError.InvalidPackage, null, element.Offset,
                    $"{_context.PackageEnd - reader.Offset:N0} bytes of the package follow the end mark, which nothing would load,");
            default:
                throw WalkContext.Failure(StreamError.UnknownElement, null, element.Offset,
                    $"Expected a section or a command, found a {element.GetType().Name}" + (_section is null ? "" : $" (after section {_section.Display})"));
        }
    }

    private void EnterSection(StreamSection section)
    {
        _section = section;
        _body = SectionBodies.For(_context.Sections[section.Id], section, _context, _description);
        _context.Visitor.OnSectionStart(section);
        _state = State.Body;
    }

    private bool ReadBody(ref WireReader reader, bool last)
    {
        if (!_body!.Read(_section!, ref reader, last))
        {
            // A skip that the body asked for is served at once from the bytes at hand.
            return _context.PendingSkip > 0 && reader.Remaining > 0;
        }

        _state = State.Footer;
        return true;
    }

    private bool ReadFooter(ref WireReader reader, bool last)
    {
        var section = _section!;
        long end = reader.Offset;
        if (_context.HasFooters != false)
        {
            var rest = reader.Rest;
            if (!SectionHeaders.TryReadFooterOf(ref reader, section.Id, out string? wrong))
            {
                return false;
            }

            // The first section shows whether the stream has footers at all; QEMU is told by the machine type.
            bool? isNext = wrong is null || _context.HasFooters is not null || rest[0] == StreamFormat.Footer
                ? false : SectionEnds.CanFollow(rest, end, last, _context);
            switch (isNext)
            {
                case null:
                    return false;
                case true:
                    _context.HasFooters = false;
                    _context.Visitor.OnNoFooters();
                    break;
                case false when wrong is not null:
                    throw WalkContext.Failure(StreamError.FooterMismatch, section, end, wrong);
                default:
                    _context.HasFooters = true;
                    break;
            }
        }

        _context.Visitor.OnSectionEnd(section, end - section.BodyOffset);
        _state = State.Element;
        return true;
    }

    private void Note(StreamCommand command, long end)
    {
        switch (command.Id)
        {
            case StreamCommandId.PostcopyAdvise when command.Data.Length == 16:
                NoteAdvice(command);
                break;
            case StreamCommandId.Packaged when _context.PackageEnd >= 0:
                throw WalkContext.Failure(StreamError.InvalidPackage, null, command.Offset, "A package starts inside another one");
            case StreamCommandId.Packaged:
                _context.PackageEnd = end + command.Value;
                break;
        }

        _context.Visitor.OnCommand(command);
    }

    // The page sizes of the source's host, and the target's page size.
    private void NoteAdvice(StreamCommand command)
    {
        var (hostSizes, size) = PostcopyCodec.ParseAdvice(command.Data)!.Value;
        _context.HostPageSizes = hostSizes;
        if (_context.KnownPageSize is null && size is >= StreamFormat.MinPageSize and <= StreamFormat.MaxPageSize && ulong.IsPow2(size))
        {
            _context.KnownPageSize = (long)size;
            _context.Visitor.OnPageSize((int)size);
        }
    }

    private bool ReadAfterEof(ref WireReader reader)
    {
        if (reader.Remaining == 0)
        {
            return false;
        }

        _state = reader.Rest[0] == StreamFormat.Description ? State.DescriptionHeader : State.Trailing;
        return true;
    }

    private bool ReadDescriptionHeader(ref WireReader reader)
    {
        if (!ElementReader.TryReadDescription(ref reader, out var description))
        {
            return false;
        }

        _context.Visitor.OnDescriptionStart(description.Offset, description.Length);
        _descriptionLeft = description.Length;
        _state = State.Description;
        return true;
    }

    private bool ReadDescription(ref WireReader reader)
    {
        int count = (int)Math.Min(_descriptionLeft, reader.Remaining);
        reader.TryReadBytes(count, out var data);
        if (count > 0)
        {
            _context.Visitor.OnDescriptionData(data);
        }

        _descriptionLeft -= count;
        if (_descriptionLeft > 0)
        {
            return false;
        }

        _state = State.Trailing;
        return true;
    }

    private bool ReadTrailing(ref WireReader reader)
    {
        if (reader.Remaining > 0)
        {
            long offset = reader.Offset;
            reader.TryReadBytes(reader.Remaining, out var data);
            _context.Visitor.OnTrailingData(offset, data);
        }

        return false;
    }

    private void CheckEnd(long end)
    {
        string? inside = _state switch
        {
            State.Header => end == 0 ? "the header; it is empty" : "the header",
            State.First => "or before the first section",
            State.Element when _context.PackageEnd >= 0 => "a PACKAGED stream",
            State.Element => "or before a section's header; the EOF mark is missing",
            State.Body => $"the body of section {_section!.Display}, which starts at byte {_section.Offset:N0}",
            State.Footer when _context.HasFooters == false => $"or behind section {_section!.Display}; the EOF mark is missing",
            State.Footer => $"the footer of section {_section!.Display}",
            State.DescriptionHeader => "the header of the description",
            State.Description => $"the description: {_descriptionLeft:N0} bytes of it are missing",
            _ => null,
        };
        if (inside is not null)
        {
            throw new StreamException(StreamError.Truncated, $"The stream ends at byte {end:N0}, inside {inside}.")
            {
                ByteOffset = end,
                Section = _state is State.Body or State.Footer ? _section!.Display : null,
            };
        }
    }
}
