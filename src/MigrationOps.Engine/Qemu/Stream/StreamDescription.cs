namespace MigrationOps.Engine.Qemu;

/// <summary>The description that QEMU writes after a stream: every field of every device saved at once.</summary>
internal sealed class StreamDescription
{
    private readonly Dictionary<(string Name, uint Instance), DescribedState> _byName = [];
    private bool? _repeatsElements;

    internal StreamDescription(int pageSize, DescribedState? configuration, IReadOnlyList<DescribedState> devices)
    {
        PageSize = pageSize;
        Configuration = configuration;
        Devices = devices;
        foreach (var device in devices)
        {
            _byName[(device.Name, device.InstanceId)] = device;
        }
    }

    /// <summary>The size of the target's pages.</summary>
    public int PageSize { get; }

    internal DescribedState? Configuration { get; }

    internal IReadOnlyList<DescribedState> Devices { get; }

    /// <summary>
    /// True if elements of an array are described one by one without their number, as QEMU 11.1 does it; earlier releases
    /// number the first of them at least. It is the only mark of a release in a stream.
    /// </summary>
    internal bool RepeatsElements => _repeatsElements ??= Devices.Any(Repeats);

    private static bool Repeats(DescribedState state)
    {
        DescribedField? first = null;
        foreach (var field in state.Fields)
        {
            if (field.Name != first?.Name)
            {
                first = field;
            }
            else if (first is { Index: null, ArrayLength: null })
            {
                return true;
            }
        }

        return state.Fields.Any(f => f.States.Any(Repeats)) || state.Subsections.Any(Repeats);
    }

    /// <summary>Reads the JSON.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidDescription"/>, <see cref="StreamError.LimitExceeded"/>.</exception>
    public static StreamDescription Parse(ReadOnlySpan<byte> json, MemoryBudget budget) => DescriptionParser.Parse(json, budget);

    internal DescribedState? Find(string name, uint instance) => _byName.GetValueOrDefault((name, instance));

    internal long? LengthOf(StreamSection section) => Find(section.IdStr, section.InstanceId)?.ByteLength;
}

/// <summary>A described structure: a device, a struct in it, or a subsection.</summary>
internal sealed class DescribedState
{
    /// <summary>A device's idstr; empty for structs and subsections.</summary>
    internal string Name { get; init; } = "";

    internal uint InstanceId { get; init; }

    /// <summary>The name of the state's layout, such as "virtio-net"; empty for devices of the old kind.</summary>
    internal string VmsdName { get; init; } = "";

    internal int Version { get; init; }

    internal DescribedField[] Fields { get; init; } = [];

    internal DescribedState[] Subsections { get; init; } = [];

    /// <summary>How many bytes it has in the stream, its subsections' heads included.</summary>
    internal long ByteLength
    {
        get
        {
            long sum = 0;
            foreach (var member in Fields)
            {
                sum = checked(sum + (member.Size * member.Count));
            }

            foreach (var subsection in Subsections)
            {
                sum = checked(sum + subsection.HeadLength + subsection.ByteLength);
            }

            return sum;
        }
    }

    /// <summary>True if it has a field of that type, at any depth.</summary>
    internal bool HasFieldOfType(string type)
        => Array.Exists(Fields, f => f.Type == type || Array.Exists(f.States, s => s.HasFieldOfType(type)))
            || Array.Exists(Subsections, s => s.HasFieldOfType(type));

    /// <summary>A subsection starts with its type, the length of its name, the name and the version.</summary>
    internal int HeadLength => 1 + 1 + System.Text.Encoding.UTF8.GetByteCount(VmsdName) + 4;
}

/// <summary>A described field.</summary>
/// <param name="Name">Its name; elements of an array share one.</param>
/// <param name="Type">The kind of value, such as uint32, buffer or struct.</param>
/// <param name="Size">Bytes of one element.</param>
/// <param name="ArrayLength">For a compressed array, how many elements follow one another; else null.</param>
/// <param name="Index">For an element of an array whose elements are described one by one.</param>
/// <param name="States">The structure of a struct, or of each element of a list.</param>
internal sealed record DescribedField(string Name, string Type, long Size, int? ArrayLength, int? Index, DescribedState[] States)
{
    internal long Count => ArrayLength ?? 1;
}
