using System.Buffers.Binary;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Decodes a device's state by the stream's own description. It reads through a small window: buffers stay where they
/// are and are known by offset and size.
/// </summary>
internal sealed class FieldDecoder(StreamBytes bytes, MemoryBudget budget, string section)
{
    private const int BytesPerNode = 128;
    private const int LongArray = 1024;
    private const byte NullPointer = (byte)'0';

    private readonly byte[] _window = new byte[4096];
    private long _windowOffset;
    private int _windowLength;
    private long _position;
    private long _end;

    /// <summary>Decodes the state that fills a section's body.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.DescriptionMismatch"/> at the first byte that is not as described.</exception>
    internal StateNode Decode(DescribedState state, long offset, long length)
    {
        (_position, _end, _windowLength) = (offset, offset + length, 0);
        var root = new StateNode { Name = state.VmsdName, Type = "device", Offset = offset, Size = length };
        root.Children = DecodeMembers(state);
        return _position == _end ? root
            : throw Mismatch(_position, $"the description ends here, {_end - _position:N0} bytes before the section does");
    }

    private StateNode[] DecodeMembers(DescribedState state)
    {
        var children = new List<StateNode>(state.Fields.Length);
        foreach (var described in state.Fields)
        {
            bool isLong = described.Count > LongArray && IsNumber(described);
            for (long i = 0; i < (isLong ? 1 : described.Count); i++)
            {
                children.Add(isLong ? PassArray(described) : DecodeField(described));
            }
        }

        foreach (var subsection in state.Subsections)
        {
            children.Add(DecodeSubsection(subsection));
        }

        return [.. children];
    }

    private static bool IsNumber(DescribedField described)
        => described.Size is > 0 and <= 8 && (FieldTypes.IsInteger(described.Type) || described.Type is "bool" or "timer");

    private StateNode PassArray(DescribedField described)
    {
        budget.Take(BytesPerNode, $"the fields of {section}");
        long start = _position, length = described.Size * described.Count;
        if (length > _end - start)
        {
            throw Mismatch(start, $"expected the array '{described.Name}' of {length:N0} bytes, found {_end - start:N0} bytes");
        }

        _position += length;
        return new StateNode { Name = described.Name, Type = described.Type, Offset = start, Size = described.Size, Count = described.Count };
    }

    private StateNode DecodeSubsection(DescribedState subsection)
    {
        budget.Take(BytesPerNode, $"the fields of {section}");
        long start = _position;
        Span<byte> head = stackalloc byte[subsection.HeadLength];
        Read(head);
        if (head[0] != StreamFormat.Subsection || head[1] != head.Length - 6
            || !head[2..^4].SequenceEqual(System.Text.Encoding.UTF8.GetBytes(subsection.VmsdName)))
        {
            throw Mismatch(start, $"expected the subsection '{subsection.VmsdName}'");
        }

        uint version = BinaryPrimitives.ReadUInt32BigEndian(head[^4..]);
        if (version != subsection.Version)
        {
            throw Mismatch(start, $"the subsection '{subsection.VmsdName}' has version {version}, described is {subsection.Version}");
        }

        var node = new StateNode { Name = subsection.VmsdName, Type = "subsection", Offset = start, IsSubsection = true, Version = version };
        node.Children = DecodeMembers(subsection);
        node.Size = _position - start;
        return node;
    }

    private StateNode DecodeField(DescribedField described)
    {
        budget.Take(BytesPerNode, $"the fields of {section}");
        long start = _position;
        if (described.Size > _end - start)
        {
            throw Mismatch(start, $"expected the field '{described.Name}' of {described.Size:N0} bytes, found {_end - start:N0} bytes");
        }

        ulong number = 0;
        StateNode[]? children = null;
        bool isElement = described.ArrayLength is not null || described.Index is not null;
        switch (described.Type)
        {
            case "struct" or "vstruct" when described.States is [var state]:
                children = DecodeMembers(state);
                break;
            case var type when FieldTypes.IsList(type) && described.States.Length > 0:
                children = DecodeList(described);
                break;
            case var _ when IsNumber(described):
                number = ReadNumber((int)described.Size);
                break;
            case "nullptr":
                if (described.Size != 1 || ReadNumber(1) != NullPointer)
                {
                    throw Mismatch(start, $"expected the mark '0' of the null pointer '{described.Name}'");
                }

                break;
            default:
                _position += described.Size;
                break;
        }

        if (_position != start + described.Size)
        {
            throw Mismatch(_position, $"the field '{described.Name}' ends here and is described to end at byte {start + described.Size:N0}");
        }

        return new StateNode
        {
            Name = described.Name,
            Type = described.Type,
            Offset = start,
            Size = described.Size,
            IsElement = isElement,
            Number = number,
            Children = children,
        };
    }

    /// <summary>A list: a byte 1 before each element, 0 at the end.</summary>
    private StateNode[] DecodeList(DescribedField described)
    {
        var elements = new List<StateNode>();
        foreach (var state in described.States)
        {
            ExpectMark(1, described.Name);
            long start = _position;
            var element = new StateNode { Name = described.Name, Type = state.VmsdName, Offset = start, IsElement = true };
            element.Children = DecodeMembers(state);
            element.Size = _position - start;
            elements.Add(element);
        }

        ExpectMark(0, described.Name);
        return [.. elements];
    }

    private void ExpectMark(byte mark, string name)
    {
        long start = _position;
        if (ReadNumber(1) != mark)
        {
            throw Mismatch(start, $"the list '{name}' has {(mark == 0 ? "more" : "fewer")} elements than described");
        }
    }

    private ulong ReadNumber(int size)
    {
        Span<byte> raw = stackalloc byte[8];
        raw.Clear();
        Read(raw[(8 - size)..]);
        return BinaryPrimitives.ReadUInt64BigEndian(raw);
    }

    private void Read(Span<byte> destination)
    {
        if (destination.Length > _end - _position)
        {
            throw Mismatch(_position, $"{destination.Length:N0} more bytes are described, {_end - _position:N0} are left");
        }

        if (_position < _windowOffset || _position + destination.Length > _windowOffset + _windowLength)
        {
            _windowOffset = _position;
            _windowLength = (int)Math.Min(_window.Length, _end - _position);
            bytes.Read(_windowOffset, _window.AsSpan(0, _windowLength));
        }

        _window.AsSpan((int)(_position - _windowOffset), destination.Length).CopyTo(destination);
        _position += destination.Length;
    }

    private StreamException Mismatch(long offset, string what)
        => new(StreamError.DescriptionMismatch, $"Section {section} is not as the stream describes it: at byte {offset:N0} {what}.",
            action: "The state and the description, which the same QEMU wrote, contradict each other: one of them was changed. If it is the state, QEMU refuses or misreads it. Look for another copy of the stream.")
        { Section = section, ByteOffset = offset };
}
