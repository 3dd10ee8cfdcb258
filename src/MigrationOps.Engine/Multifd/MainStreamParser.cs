using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>
/// Walks a migration's main stream as far as the receiver of channels needs it: commands, the RAM section's
/// synchronisation marks, the bodies of those devices that somebody knows, and the end. It does no I/O.
/// </summary>
/// <remarks>
/// States of devices (FULL sections) have no length, so that they cannot be walked without knowing every device. From the
/// first of them on the parser looks for the sections that it knows and for the description that QEMU puts last.
/// </remarks>
public sealed class MainStreamParser
{
    private const byte ConfigurationType = 7;
    private const byte CommandType = 8;
    private const byte FooterType = 0x7e;
    private const ushort OpenReturnPathCommand = 1;
    private const ushort PingCommand = 2;
    private const ushort SwitchoverStartCommand = 11;
    private const int HeaderSize = 8;

    private readonly IMainStreamObserver _observer;
    private readonly Dictionary<uint, (SectionInfo Info, ISectionBody? Body)> _sections = [];
    private readonly StreamConfiguration _configuration = new();
    private readonly StreamTail _tail = new();
    private readonly int _pageSize;
    private State _state = State.Header;
    private ISectionBody? _body;
    private uint _sectionId;
    private bool _inTail;

    /// <summary>Creates a parser.</summary>
    /// <param name="observer">Hears what passes.</param>
    /// <param name="pageSize">Size of a target page in bytes, until the stream says another.</param>
    public MainStreamParser(IMainStreamObserver observer, int pageSize = 4096)
    {
        _observer = observer;
        _pageSize = pageSize;
    }

    private enum State
    {
        Header,
        Configuration,
        Section,
        Body,
        Footer,
        Tail,
        AfterEnd,
        Ended,
    }

    /// <summary>Bytes used so far.</summary>
    public long Offset { get; private set; }

    /// <summary>Size of a target page in bytes.</summary>
    public int PageSize => _configuration.PageSize ?? _pageSize;

    /// <summary>True after the end mark and QEMU's description of the stream.</summary>
    public bool HasEnded => _state == State.Ended;

    /// <summary>True if the end mark has passed; a description may follow it.</summary>
    public bool HasEndMark => _state is State.Ended or State.AfterEnd;

    /// <summary>Where the first section or command starts; commands may be put there. Null before it has been reached.</summary>
    public long? FirstSectionOffset { get; private set; }

    /// <summary>True once every iterable device has started.</summary>
    public bool SetupHasEnded { get; private set; }

    /// <summary>The machine type of the source.</summary>
    public string? Machine => _configuration.Machine;

    /// <summary>How many bytes must be there for the next step, at least.</summary>
    public int Wanted { get; private set; } = 1;

    /// <summary>Why the walk stopped before the end, null if it did not.</summary>
    public string? GaveUp { get; private set; }

    /// <summary>Takes bytes.</summary>
    /// <param name="data">What has arrived from <see cref="Offset"/> on.</param>
    /// <returns>Bytes used; 0 if more are needed, at least <see cref="Wanted"/>.</returns>
    public int Parse(ReadOnlySpan<byte> data)
    {
        int total = 0;
        while (total < data.Length || (total == 0 && _state == State.Configuration))
        {
            int used = Step(data[total..], out bool again);
            total += used;
            Offset += used;
            if (used == 0 && !again)
            {
                break;
            }
        }

        if (total == data.Length)
        {
            // What the last step had in hand says nothing about what comes next, which may be shorter.
            Wanted = 1;
        }

        return total;
    }

    /// <summary>The stream has ended.</summary>
    /// <param name="rest">The bytes that were not used.</param>
    /// <exception cref="MultifdException"><see cref="MultifdError.MainStreamTruncated"/> if that was too early.</exception>
    public void Finish(ReadOnlySpan<byte> rest)
    {
        // Machines can be told not to write the description; then a footer and a zero byte are all that marks the end.
        bool complete = _state switch
        {
            State.Ended or State.AfterEnd => true,
            State.Tail => rest.Length > 5 && rest[^1] == 0 && rest[^6] == FooterType,
            _ => false,
        };
        if (!complete)
        {
            throw Error(MultifdError.MainStreamTruncated, _state switch
            {
                State.Body => $"the stream ends inside section '{_sections.GetValueOrDefault(_sectionId).Info?.IdStr}'",
                State.Tail => "the stream ends among the states of devices, before the end mark",
                _ => "the stream ends before its end mark",
            });
        }
    }

    private int Step(ReadOnlySpan<byte> data, out bool again)
    {
        again = false;
        Wanted = data.Length + 1;
        switch (_state)
        {
            case State.Header:
                return ParseHeader(data);
            case State.Configuration:
                int subsection = _configuration.ParseSubsection(data, Offset, out again);
                _state = again ? State.Section : State.Configuration;
                return subsection;
            case State.Section:
                return ParseSection(data, out again);
            case State.Body:
                int used = _body!.Parse(data, out bool ended);
                again = ended;
                _state = ended ? State.Footer : State.Body;
                return used;
            case State.Footer:
                return ParseFooter(data, out again);
            case State.Tail:
                return ParseTail(data);
            case State.AfterEnd:
                return ParseDescription(data);
            default:
                throw Error(MultifdError.MainStreamInvalid, "bytes follow the end of the stream");
        }
    }

    private int ParseHeader(ReadOnlySpan<byte> data)
    {
        var reader = WireReader.BigEndian(data);
        if (reader.TryReadUInt32(out uint magic) && magic != ChannelInit.MainMagic)
        {
            throw Error(MultifdError.UnknownMagic, $"a migration stream starts with 'QEVM', this one with 0x{magic:x8}");
        }

        if (!reader.TryReadUInt32(out uint version))
        {
            return 0;
        }

        if (version != 3)
        {
            throw Error(MultifdError.UnsupportedVersion, $"the stream has version {version}, not 3");
        }

        _state = State.Section;
        return HeaderSize;
    }

    private int ParseSection(ReadOnlySpan<byte> data, out bool again)
    {
        again = false;
        byte type = data[0];
        var reader = WireReader.BigEndian(data[1..]);
        if (type == ConfigurationType && FirstSectionOffset is null)
        {
            int machine = _configuration.ParseMachine(data[1..], Offset);
            _state = machine > 0 ? State.Configuration : State.Section;
            return machine > 0 ? 1 + machine : 0;
        }

        FirstSectionOffset ??= Offset;
        switch (type)
        {
            case (byte)SectionKind.End:
                if (_sections.Count == 0)
                {
                    throw Error(MultifdError.MainStreamInvalid, "the stream ends without any section: it carries no state");
                }

                _state = State.AfterEnd;
                return 1;
            case (byte)SectionKind.Start:
            case (byte)SectionKind.Full:
                return ParseNamed((SectionKind)type, data, out again);
            case (byte)SectionKind.Part:
            case (byte)SectionKind.Last:
                if (!reader.TryReadUInt32(out uint id))
                {
                    return 0;
                }

                if (!_sections.TryGetValue(id, out var section))
                {
                    throw Error(MultifdError.MainStreamInvalid, $"section {id} was never started");
                }

                SetupHasEnded = true;
                Enter(section.Info, section.Body, (SectionKind)type, 5);
                return 5;
            case CommandType:
                return ParseCommand(data);
            default:
                throw Error(MultifdError.MainStreamInvalid, $"there is no section of type 0x{type:x2}");
        }
    }

    private int ParseNamed(SectionKind kind, ReadOnlySpan<byte> data, out bool again)
    {
        again = false;
        var reader = WireReader.BigEndian(data[1..]);
        if (!reader.TryReadUInt32(out uint id) || !StreamConfiguration.TryReadName(ref reader, Offset, out string idStr)
            || !reader.TryReadUInt32(out uint instance) || !reader.TryReadUInt32(out uint version))
        {
            return 0;
        }

        var info = new SectionInfo(id, idStr, instance, version);
        ISectionBody? body;
        if (kind == SectionKind.Full)
        {
            body = _sections.TryGetValue(id, out var known) && known.Info.IdStr == idStr ? known.Body : null;
            if (body is null or RamSectionBody)
            {
                EnterTail();
                again = true;
                return 0;
            }
        }
        else
        {
            if (_sections.Count >= 65536 || _sections.ContainsKey(id))
            {
                throw Error(MultifdError.MainStreamInvalid, $"section {id} ('{idStr}') starts twice");
            }

            body = idStr == "ram" ? new RamSectionBody(_observer, PageSize, _configuration.IgnoresShared) : _observer.OpenSection(info);
            _sections.Add(id, (info, body));
        }

        Enter(info, body, kind, 1 + reader.Position);
        return 1 + reader.Position;
    }

    private void Enter(SectionInfo info, ISectionBody? body, SectionKind kind, int headerLength)
    {
        _sectionId = info.Id;
        if (body is null)
        {
            GaveUp ??= $"section '{info.IdStr}' at byte {Offset:N0} is of a device that cannot be walked";
            EnterTail();
            return;
        }

        _body = body;
        body.Begin(kind, Offset + headerLength);
        _state = State.Body;
    }

    private void EnterTail()
    {
        _inTail = true;
        _tail.Watch(_sections.Values.Where(s => s.Body is not (null or RamSectionBody)).Select(s => s.Info));
        _state = State.Tail;
    }

    private int ParseFooter(ReadOnlySpan<byte> data, out bool again)
    {
        // Old machine types write no footers.
        again = data[0] != FooterType;
        var reader = WireReader.BigEndian(data[1..]);
        if (!again && !reader.TryReadUInt32(out uint id))
        {
            return 0;
        }

        _state = _inTail ? State.Tail : State.Section;
        return again ? 0 : 5;
    }

    private int ParseCommand(ReadOnlySpan<byte> data)
    {
        var reader = WireReader.BigEndian(data[1..]);
        if (!reader.TryReadUInt16(out ushort command) || !reader.TryReadUInt16(out ushort length)
            || !reader.TryReadBytes(length, out var body))
        {
            return 0;
        }

        switch (command)
        {
            case OpenReturnPathCommand:
                _observer.ReturnPathOpened();
                break;
            case PingCommand when length == 4:
                _observer.Ping(WireReader.BigEndian(body).ReadUInt32("PING"));
                break;
            case SwitchoverStartCommand:
                _observer.SwitchedOver();
                break;
        }

        return 1 + reader.Position;
    }

    private int ParseTail(ReadOnlySpan<byte> data)
    {
        int used = _tail.Find(data, out var found, out int wanted);
        Wanted = Math.Max(Wanted, wanted);
        if (found is null)
        {
            return used;
        }

        if (found.Value.IsEnd)
        {
            _state = State.Ended;
            return used;
        }

        var (info, body) = _sections[found.Value.SectionId];
        _sectionId = info.Id;
        _body = body!;
        body!.Begin(SectionKind.Full, Offset + used);
        _state = State.Body;
        return used;
    }

    private int ParseDescription(ReadOnlySpan<byte> data)
    {
        int size = StreamTail.DescriptionSize(data, out bool isOne);
        if (!isOne)
        {
            throw Error(MultifdError.MainStreamInvalid, "what follows the end mark is not QEMU's description of the stream");
        }

        if (size == 0 || data.Length < size)
        {
            Wanted = Math.Max(size, data.Length + 1);
            return 0;
        }

        _state = State.Ended;
        return size;
    }

    private MultifdException Error(MultifdError reason, string what)
        => MultifdException.At(reason, "main channel", Offset, what);
}
