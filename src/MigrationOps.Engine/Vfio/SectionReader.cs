using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// Reads the sections of one VFIO device where they lie alone: in a file, or in a stream of which only the body may be read.
/// </summary>
internal sealed class SectionReader
{
    private readonly VfioBody _body;
    private readonly StreamSection _header;
    private StreamSection _section;
    private long _offset;

    /// <summary>Begins before the first section.</summary>
    /// <param name="target">Takes what they hold.</param>
    /// <param name="name">What errors call the device.</param>
    internal SectionReader(IDeviceSections target, string name)
    {
        _body = new VfioBody(new WalkContext(new Forwarding(target)), hasFooter: false);
        _section = _header = new StreamSection(SectionKind.Part, 0, name, 0, 1, 0, 0);
    }

    /// <summary>A section begins.</summary>
    /// <param name="kind">Which.</param>
    /// <param name="offset">Where its body starts in the stream.</param>
    internal void Begin(SectionKind kind, long offset)
    {
        _section = _header with { Kind = kind, Offset = offset, BodyOffset = offset };
        _offset = offset;
    }

    /// <summary>A reader of the bytes from the current position on.</summary>
    internal WireReader Over(ReadOnlySpan<byte> data) => WireReader.BigEndian(data, _offset);

    /// <summary>Reads of a body what the reader has; what is not used must come again, with more after it.</summary>
    /// <returns>True if the body has ended.</returns>
    internal bool Read(ref WireReader reader)
    {
        bool ended = _body.Read(_section, ref reader, last: false);
        _offset = reader.Offset;
        return ended;
    }

    /// <summary>How many bytes more <see cref="Read"/> needs for the next step, never one beyond the body.</summary>
    internal int CountNeededBytes(ReadOnlySpan<byte> held, int most) => _body.CountNeededBytes(held, most);

    /// <summary>The stored sections have ended.</summary>
    /// <param name="rest">The bytes that were not used.</param>
    /// <exception cref="StreamException"><see cref="StreamError.Truncated"/>.</exception>
    internal void Finish(int rest)
    {
        if (_body.IsInside || rest > 0)
        {
            throw WalkContext.Failure(StreamError.Truncated, _section, _offset + rest, "The stored sections end inside a marker, data or a config state");
        }
    }

    private sealed class Forwarding(IDeviceSections target) : DeviceSectionVisitor
    {
        protected override IDeviceSections? DeviceOf(StreamSection section) => target;
    }
}
