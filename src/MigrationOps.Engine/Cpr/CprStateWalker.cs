using System.Buffers.Binary;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Cpr;

/// <summary>An entry as it stands in the bytes.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Id">Its id.</param>
/// <param name="Descriptor">Transfer: its place in the order of descriptors, from 0. Exec: the number of the descriptor.</param>
/// <param name="Offset">Where its first byte is.</param>
internal readonly record struct CprDecodedEntry(CprName Name, int Id, int Descriptor, long Offset);

/// <summary>
/// Walks a CPR state, however its bytes are split. It does no I/O and owns no descriptors: it says which entry needs
/// which one. Entries are complete once they are in <see cref="Entries"/>, the whole once the last bytes were fed.
/// <code>
/// header -> marker -1-> name length -> name -> id -> descriptor -> marker
///                  -0-> (end | subsection -> its list -> end)
/// </code>
/// </summary>
/// <param name="mode">How the descriptors travel; the bytes do not tell.</param>
/// <param name="source">What errors call the sender.</param>
internal sealed class CprStateWalker(CprMode mode, string source)
{
    private enum Field
    {
        Header,
        Marker,
        NameLength,
        Name,
        Id,
        Descriptor,
        AfterList,
        SectionNameLength,
        SectionName,
        SectionVersion,
        DeviceMarker,
        DeviceNameLength,
        DeviceName,
        DeviceIds,
        End,
    }

    private readonly List<CprDecodedEntry> _entries = [];
    private readonly HashSet<(CprName Name, int Id)> _keys = [];
    private readonly byte[] _field = new byte[CprName.MaxLength + 1];
    private List<CprVfioDevice>? _devices;
    private Field _state = Field.Header;
    private int _needed = 8;
    private int _filled;
    private int _nameBytes;
    private long _start;
    private CprName _name;
    private int _id;

    /// <summary>The complete entries, in the order of the bytes: newest first.</summary>
    public IReadOnlyList<CprDecodedEntry> Entries => _entries;

    /// <summary>The VFIO devices of QEMU 10.1 and later; null if the state has no such section, as QEMU 10.0's.</summary>
    public IReadOnlyList<CprVfioDevice>? VfioDevices => _devices;

    /// <summary>The offset of the next byte.</summary>
    public long Offset { get; private set; }

    /// <summary>Takes the next bytes, all of them.</summary>
    /// <param name="data">The bytes.</param>
    /// <param name="last">True if no bytes will come.</param>
    /// <returns>How many bytes were used.</returns>
    /// <exception cref="CprException">They are not a CPR state, or the last of them is not its end
    /// (<see cref="CprError.Truncated"/>); the message has the offset.</exception>
    public int Feed(ReadOnlySpan<byte> data, bool last)
    {
        for (var bytes = data; !bytes.IsEmpty;)
        {
            if (_state == Field.End)
            {
                throw Failure(CprError.TrailingData, "the end", Offset,
                    $"{bytes.Length:N0} bytes or more follow the end of the state");
            }

            int count = Math.Min(_needed - _filled, bytes.Length);
            if (count == _needed)
            {
                Offset += count;
                Take(bytes[..count]);
            }
            else
            {
                bytes[..count].CopyTo(_field.AsSpan(_filled));
                _filled += count;
                Offset += count;
                if (_filled == _needed)
                {
                    _filled = 0;
                    Take(_field.AsSpan(0, _needed));
                }
            }

            bytes = bytes[count..];
        }

        return !last || _state is Field.End or Field.AfterList ? data.Length
            : throw Failure(CprError.Truncated, Describe(_state), Offset,
                $"the state ends inside {Describe(_state)} after {_entries.Count:N0} complete entries");
    }

    private void Take(ReadOnlySpan<byte> field)
    {
        switch (_state)
        {
            case Field.Header:
                CheckHeader(field);
                Expect(Field.Marker, 1);
                break;
            case Field.Marker:
                TakeMarker(field[0], Field.NameLength, Field.AfterList);
                break;
            case Field.NameLength:
                Expect(Field.Name, CheckNameLength(field));
                break;
            case Field.Name:
                _name = ReadName(field);
                Expect(Field.Id, 4);
                break;
            case Field.Id:
                _id = BinaryPrimitives.ReadInt32BigEndian(field);
                Expect(Field.Descriptor, mode == CprMode.Transfer ? 1 : 4);
                break;
            case Field.Descriptor:
                AddEntry(field);
                Expect(Field.Marker, 1);
                break;
            default:
                TakeSection(field);
                break;
        }
    }

    // QEMU 10.1 added the one section that exists so far; it always writes it.
    private void TakeSection(ReadOnlySpan<byte> field)
    {
        switch (_state)
        {
            case Field.AfterList:
                _start = Offset - 1;
                if (field[0] != CprFormat.Subsection)
                {
                    throw Failure(CprError.TrailingData, "the end", _start,
                        $"the list is followed by byte 0x{field[0]:x2}, which starts no section");
                }

                Expect(Field.SectionNameLength, 1);
                break;
            case Field.SectionNameLength:
                Expect(Field.SectionName, field[0] > 0 ? field[0]
                    : throw Failure(CprError.InvalidName, "a section", _start, "a section has an empty name"));
                break;
            case Field.SectionName:
                if (!field.SequenceEqual(CprFormat.VfioDevicesName))
                {
                    throw Failure(CprError.UnsupportedSection, "a section", _start,
                        $"the section is {Quote(field)}; the ones known are those of QEMU 10.0 to 11.1, "
                        + $"mode {(mode == CprMode.Transfer ? "cpr-transfer" : "cpr-exec")}: 'CprState/vfio devices'");
                }

                Expect(Field.SectionVersion, 4);
                break;
            case Field.SectionVersion:
                uint version = BinaryPrimitives.ReadUInt32BigEndian(field);
                if (version != CprFormat.VfioDevicesVersion)
                {
                    throw Failure(CprError.UnsupportedSection, "CprState/vfio devices", _start,
                        $"'CprState/vfio devices' has version {version}; QEMU up to 11.1 writes version 1");
                }

                _devices = [];
                Expect(Field.DeviceMarker, 1);
                break;
            case Field.DeviceMarker:
                TakeMarker(field[0], Field.DeviceNameLength, Field.End);
                break;
            case Field.DeviceNameLength:
                Expect(Field.DeviceName, CheckNameLength(field));
                break;
            case Field.DeviceName:
                _name = ReadName(field);
                Expect(Field.DeviceIds, 12);
                break;
            case Field.DeviceIds:
                _devices!.Add(new CprVfioDevice(_name, BinaryPrimitives.ReadInt32BigEndian(field),
                    BinaryPrimitives.ReadUInt32BigEndian(field[4..]), BinaryPrimitives.ReadUInt32BigEndian(field[8..])));
                Expect(Field.DeviceMarker, 1);
                break;
        }
    }

    private void Expect(Field state, int bytes)
    {
        _state = state;
        _needed = bytes;
    }

    private void CheckHeader(ReadOnlySpan<byte> field)
    {
        uint magic = BinaryPrimitives.ReadUInt32BigEndian(field);
        uint version = BinaryPrimitives.ReadUInt32BigEndian(field[4..]);
        if (magic != CprFormat.Magic)
        {
            string what = magic == StreamFormat.Magic ? "a main migration channel (QEVM)" : $"magic 0x{magic:x8}";
            throw Failure(CprError.BadMagic, "the header", 0, $"it starts with {what}, not with QCPR");
        }

        if (version != CprFormat.Version)
        {
            throw Failure(CprError.UnsupportedVersion, "the header", 4,
                $"the container has version {version}; QEMU 10.0 to 11.1 write version 1");
        }
    }

    private void TakeMarker(byte marker, Field element, Field end)
    {
        _start = Offset - 1;
        switch (marker)
        {
            case CprFormat.ListElement when _entries.Count + (_devices?.Count ?? 0) >= CprFormat.MaxEntries:
                throw Failure(CprError.TooManyEntries, Describe(_state), _start,
                    $"there are more than {CprFormat.MaxEntries:N0} entries");
            case CprFormat.ListElement:
                Expect(element, 4);
                break;
            case CprFormat.EndOfList:
                Expect(end, 1);
                break;
            default:
                throw Failure(CprError.InvalidMarker, Describe(_state), _start,
                    $"the mark of a list element is 0x{marker:x2}, expected 0x01 or 0x00");
        }
    }

    private int CheckNameLength(ReadOnlySpan<byte> field)
    {
        uint length = BinaryPrimitives.ReadUInt32BigEndian(field);
        return length == 0
            ? throw Failure(CprError.InvalidName, Describe(_state), Offset - 4,
                "a name has length 0, expected 1 at least for its NUL")
            : length > CprName.MaxLength + 1
            ? throw Failure(CprError.NameTooLong, Describe(_state), Offset - 4,
                $"a name of {length:N0} bytes is announced; {CprName.MaxLength:N0} and a NUL are allowed")
            : (_nameBytes += (int)length) > CprFormat.MaxNameBytesTotal
            ? throw Failure(CprError.TooManyEntries, Describe(_state), Offset - 4,
                $"the names have more than {CprFormat.MaxNameBytesTotal:N0} bytes together")
            : (int)length;
    }

    private CprName ReadName(ReadOnlySpan<byte> field)
    {
        int end = field.IndexOf((byte)0);
        return end == field.Length - 1 && end > 0
            ? new CprName(field[..end])
            : throw Failure(CprError.InvalidName, Describe(_state), Offset - field.Length, end switch
            {
                < 0 => $"the name {Quote(field)} has no NUL at its end",
                0 => "a name is empty",
                _ => $"the name {Quote(field[..^1])} has its NUL at byte {end}, before its end",
            });
    }

    private void AddEntry(ReadOnlySpan<byte> field)
    {
        int descriptor = _entries.Count;
        if (mode == CprMode.Exec)
        {
            descriptor = BinaryPrimitives.ReadInt32BigEndian(field);
            if (descriptor < 0)
            {
                throw Failure(CprError.MissingDescriptor, $"entry '{_name}', id {_id}", Offset - 4,
                    $"entry '{_name}', id {_id}, has descriptor number {descriptor}");
            }
        }
        else if (field[0] != CprFormat.DummyByte)
        {
            throw Failure(CprError.InvalidMarker, $"entry '{_name}', id {_id}", Offset - 1,
                $"entry '{_name}', id {_id}, has 0x{field[0]:x2} before its descriptor, expected 0x20");
        }

        if (!_keys.Add((_name, _id)))
        {
            throw Failure(CprError.DuplicateEntry, $"entry '{_name}', id {_id}", _start,
                $"a second entry has the name '{_name}' and the id {_id}");
        }

        _entries.Add(new CprDecodedEntry(_name, _id, descriptor, _start));
    }

    private string Describe(Field field) => field switch
    {
        Field.Header => "the header",
        Field.Marker => $"the mark after {(_entries.Count == 0 ? "the header" : $"entry {_entries.Count:N0}")}",
        Field.NameLength or Field.Name => $"the name of entry {_entries.Count + 1:N0}",
        Field.Id => $"the id of entry '{_name}'",
        Field.Descriptor => $"the descriptor of entry '{_name}', id {_id}",
        Field.SectionNameLength or Field.SectionName or Field.SectionVersion => "the head of a section",
        _ => "the list of VFIO devices",
    };

    private static string Quote(ReadOnlySpan<byte> name)
    {
        int nul = name.IndexOf((byte)0);
        var shown = nul < 0 ? name : name[..nul];
        shown = shown[..Math.Min(shown.Length, 64)];
        return shown.IsEmpty ? "''" : $"'{new CprName(shown)}'";
    }

    private CprException Failure(CprError reason, string section, long offset, string what)
        => new(reason, $"{source}: at byte {offset:N0} of the CPR state, {what}.")
        {
            Peer = source,
            Section = section,
            ByteOffset = offset,
        };
}
