using System.Buffers;
using System.Text.Json;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Keeps the sections of devices without a registered handler in a file that is a migration stream itself: header and configuration as
/// they came, those sections, the end mark, and what the description says of them. Their bodies carry no length: RAM,
/// bitmaps and VFIO data end by their own marks, any other body at a footer that is followed by something that can follow
/// one - and at the end the description, which has the lengths, must agree, or the file does not appear.
/// </summary>
internal sealed class SectionSpool : IDisposable
{
    private readonly AtomicFile _file;
    private readonly object _gate = new();
    private readonly WalkContext _walk;
    private readonly SpooledRam? _ram;
    private readonly RoundBarrier? _rounds;
    private readonly Dictionary<StreamSection, long> _saved = [];
    private readonly SortedSet<string> _devices = new(StringComparer.Ordinal);
    private int _adopted;

    /// <summary>Begins a file.</summary>
    /// <param name="path">Where it appears.</param>
    /// <param name="channels">Carry the RAM beside the main stream; null if that has it.</param>
    /// <param name="scope">The deadline of every wait, and cancellation.</param>
    internal SectionSpool(string path, IncomingChannels? channels, TransferScope scope)
    {
        _file = AtomicFile.Create(path, scope);
        if (channels is not null)
        {
            _rounds = new RoundBarrier(channels.Count, channels.Moved, scope);
            channels.Ram = _ram = new SpooledRam(Output, _gate, _rounds);
        }

        _walk = new WalkContext(_ram is null ? new Blind() : _ram);
    }

    /// <summary>Where the bytes go that are to be kept as they come.</summary>
    internal Stream Output => _file.Stream;

    /// <summary>The devices that have a section in the file.</summary>
    internal string[] Devices => [.. _devices];

    /// <summary>Learns what the configuration says of the bodies' format.</summary>
    internal void Configure(StreamConfiguration configuration)
    {
        _ram?.SyncsAtSectionEnd = MachineVersion.SyncsAtSectionEnd(configuration.MachineType);
        _walk.IgnoreShared = configuration.Capabilities.Contains(StreamFormat.IgnoreSharedCapability);
        _walk.KnownPageSize = configuration.PageBits is { } bits ? 1L << bits : _walk.KnownPageSize;
    }

    /// <summary>Notes a section's id, which the sections behind it may name.</summary>
    internal void RegisterSection(StreamSection start)
    {
        var section = start with { Offset = 0, BodyOffset = 0 };
        if (_walk.Sections.TryGetValue(start.Id, out var entry))
        {
            // The target has checked whose it is; a device may come under another of its names.
            entry.Header = section;
        }
        else
        {
            _walk.Register(section);
        }
    }

    /// <summary>True for a capability whose change of the format is known here.</summary>
    internal static bool Reads(string capability) => capability == StreamFormat.IgnoreSharedCapability;

    /// <summary>Stands in for the handlers of a device without a registered handler.</summary>
    internal SaveVmEntry AddUnknown(StreamSection start, long offset)
        => ++_adopted <= StreamFormat.MaxSections
            ? new(start.IdStr, start.InstanceId, (int)Math.Min(start.VersionId, int.MaxValue), start.Id, 0, new UnknownDevice(this, start), [])
            : throw StreamException.At(StreamError.InvalidSectionId, offset, $"More than {StreamFormat.MaxSections:N0} devices that are not registered are started");

    /// <summary>Keeps one section of an adopted device, from its head to the footer, until the result is disposed.</summary>
    internal IDisposable? Keep(SectionKind type, SaveVmEntry entry, IncomingStream input)
    {
        if (entry.Handlers is not UnknownDevice device)
        {
            return null;
        }

        device.Section = _walk.Sections[entry.SectionId].Header with { Kind = type, Offset = input.Offset, BodyOffset = input.Offset };
        _devices.Add(entry.ToString());
        if (device.Ram is { } ram)
        {
            ram.Begin(entry, input);
            return null;
        }

        var head = new ArrayBufferWriter<byte>();
        entry.WriteHeader(head, type);
        var tapping = new Tapping(input, Output, _gate);
        try
        {
            Output.Write(head.WrittenSpan);
            return tapping;
        }
        catch
        {
            tapping.Dispose();
            throw;
        }
    }

    /// <summary>Reads the description behind the end mark, checks the lengths against it, and makes the file durable.</summary>
    internal void Complete(IncomingStream input)
    {
        Output.WriteByte(StreamFormat.Eof);
        if (input.Peek() == StreamFormat.Description)
        {
            byte[] json = ReadDescription(input);
            Check(StreamDescription.Parse(json, new MemoryBudget()), input.Offset);
            Output.Write(Filtered(json));
        }
        else if (_saved.Count > 0)
        {
            throw StreamException.At(StreamError.Truncated, input.Offset,
                $"No description follows the end mark; without it the lengths of the {_saved.Count:N0} kept states cannot be checked");
        }

        _file.Commit();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _rounds?.Dispose();
        _file.Dispose();
    }

    private static byte[] ReadDescription(IncomingStream input)
    {
        int length = ((DescriptionHeader)input.ReadElement()).Length;
        // The announced length is not trusted with memory before the bytes are there.
        using var json = new MemoryStream();
        input.Tap = json;
        int there = input.Skip(length);
        input.Tap = null;
        return there == length ? json.ToArray()
            : throw StreamException.At(StreamError.Truncated, input.Offset, $"The stream's description is cut: {there:N0} of its {length:N0} bytes are there");
    }

    private void Check(StreamDescription description, long offset)
    {
        foreach (var (section, length) in _saved)
        {
            if (description.LengthOf(section) is not { } described)
            {
                throw StreamException.At(StreamError.DescriptionMismatch, offset, $"The stream's description does not know the state of {section.Display}", section.Display);
            }

            if (described != length)
            {
                throw StreamException.At(StreamError.DescriptionMismatch, offset,
                    $"The state of {section.Display} has {length:N0} bytes before its footer, and {described:N0} by the stream's description", section.Display);
            }
        }
    }

    // What it says of devices that are not in the file would be wrong there.
    private byte[] Filtered(byte[] json)
    {
        var kept = _saved.Keys.Select(s => (s.IdStr, s.InstanceId)).ToHashSet();
        var text = new ArrayBufferWriter<byte>();
        using (var document = JsonDocument.Parse(json))
        using (var writer = new Utf8JsonWriter(text))
        {
            writer.WriteStartObject();
            foreach (var property in document.RootElement.EnumerateObject())
            {
                if (property.Name != "devices")
                {
                    property.WriteTo(writer);
                    continue;
                }

                writer.WriteStartArray(property.Name);
                foreach (var device in property.Value.EnumerateArray().Where(d => kept.Contains((d.GetProperty("name").GetString()!, d.GetProperty("instance_id").GetUInt32()))))
                {
                    device.WriteTo(writer);
                }

                writer.WriteEndArray();
            }

            writer.WriteEndObject();
        }

        var element = new ArrayBufferWriter<byte>(text.WrittenCount + 5);
        ElementWriter.Description(element, text.WrittenSpan);
        return element.WrittenSpan.ToArray();
    }

    // Nothing else may come between the head of a section and its footer.
    private sealed class Tapping : IDisposable
    {
        private readonly IncomingStream _input;
        private readonly object _gate;

        internal Tapping(IncomingStream input, Stream output, object gate)
        {
            (_input, _gate) = (input, gate);
            Monitor.Enter(gate);
            _input.Tap = output;
        }

        public void Dispose()
        {
            _input.Tap = null;
            Monitor.Exit(_gate);
        }
    }

    private sealed class Blind : StreamVisitor;

    /// <summary>Reads bodies to their ends; the tap has their bytes.</summary>
    private sealed class UnknownDevice(SectionSpool spool, StreamSection first) : ISaveVmHandlers
    {
        public SaveVmHandler Offered => SaveVmHandler.LoadState;

        internal StreamSection Section { get; set; } = first;

        /// <summary>Writes what this device sends, if its pages come over channels too.</summary>
        internal SpooledRam? Ram => Section is { IdStr: StreamFormat.Ram, Kind: not SectionKind.Full } ? spool._ram : null;

        public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
        {
            var input = ((SectionLoadStream)stream).Input;
            long start = input.Offset;
            var body = SectionBodies.For(spool._walk.Sections[Section.Id], Section, spool._walk, description: null);
            input.ReadBody((ref WireReader reader, bool last) => body.Read(Section, ref reader, last));
            Ram?.End(Section.Kind);
            if (Section.Kind == SectionKind.Full)
            {
                spool._saved[Section with { Offset = 0, BodyOffset = 0 }] = input.Offset - start;
            }
        }
    }
}
