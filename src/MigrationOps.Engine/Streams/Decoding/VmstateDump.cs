using System.Text.Json;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// What a QEMU can load, as <c>qemu -dump-vmstate</c> prints it: for each device type its layout with versions, fields
/// and subsections. Layouts that QEMU registers by hand (RAM, timers, CPUs of some targets) are not in it.
/// </summary>
internal sealed class VmstateDump
{
    private const int MaxLength = 32 << 20;
    private const string MachineKey = "vmschkmachine";

    private readonly Dictionary<string, List<DumpedState>> _byLayout = [];

    internal string Machine { get; private set; } = "";

    /// <summary>The layouts by device type.</summary>
    internal Dictionary<string, DumpedState> Types { get; } = [];

    /// <summary>The layouts of that name; several device types may share a name and differ.</summary>
    internal IReadOnlyList<DumpedState> Find(string layout) => _byLayout.GetValueOrDefault(layout) ?? [];

    internal static VmstateDump Read(string path, MemoryBudget budget)
    {
        try
        {
            long length = new FileInfo(path).Length;
            if (length > MaxLength)
            {
                throw new StreamException(StreamError.LimitExceeded, $"The device description '{path}' has {length:N0} bytes; more than {MaxLength:N0} are not read.") { Target = path };
            }

            budget.Take(length * 2, "the device description");
            return Parse(File.ReadAllBytes(path), path);
        }
        catch (FileNotFoundException e)
        {
            throw new WireException(WireError.NotFound, $"The device description '{path}' does not exist.", e, "Check the path.") { Target = path };
        }
        catch (IOException e)
        {
            throw new WireException(WireError.InputOutput, $"The device description '{path}' cannot be read: {e.Message}", e) { Target = path };
        }
    }

    internal static VmstateDump Parse(ReadOnlyMemory<byte> json, string name)
    {
        var dump = new VmstateDump();
        try
        {
            // QEMU before 8.1 does not say how long arrays are.
            bool hasNumbers = json.Span.IndexOf("\"num\":"u8) >= 0;
            using var document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = 128 });
            foreach (var type in document.RootElement.EnumerateObject())
            {
                if (type.Name == MachineKey)
                {
                    dump.Machine = type.Value.GetProperty("Name").GetString() ?? "";
                }
                else if (type.Value.TryGetProperty("Description", out var description))
                {
                    var state = DumpedState.From(description, hasNumbers);
                    if (!dump._byLayout.TryGetValue(state.Name, out var states))
                    {
                        dump._byLayout.Add(state.Name, states = []);
                    }

                    states.Add(state);
                    dump.Types[type.Name] = state;
                }
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw new StreamException(StreamError.InvalidDescription, $"'{name}' is not a device description of QEMU: {e.Message}", e,
                "Write it with: qemu-system-x86_64 -M MACHINE -dump-vmstate FILE")
            { Target = name };
        }

        return dump.Machine.Length > 0 ? dump
            : throw new StreamException(StreamError.InvalidDescription, $"'{name}' is not a device description of QEMU: it names no machine.",
                action: "Write it with: qemu-system-x86_64 -M MACHINE -dump-vmstate FILE")
            { Target = name };
    }
}

/// <summary>A layout that a QEMU can load.</summary>
internal sealed record DumpedState(string Name, int Version, int MinimumVersion, DumpedField[] Fields, DumpedState[] Subsections)
{
    internal static DumpedState From(JsonElement element, bool hasNumbers) => new(
        element.GetProperty("name").GetString()!,
        element.GetProperty("version_id").GetInt32(),
        element.TryGetProperty("minimum_version_id", out var minimum) ? minimum.GetInt32() : 0,
        element.TryGetProperty(nameof(Fields), out var fields) ? [.. fields.EnumerateArray().Select(f => DumpedField.From(f, hasNumbers))] : [],
        element.TryGetProperty(nameof(Subsections), out var subsections) ? [.. subsections.EnumerateArray().Select(s => From(s, hasNumbers))] : []);
}

/// <summary>A field of a layout.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Version">From which version of the layout on it is there.</param>
/// <param name="Conditional">True if code decides whether it is there.</param>
/// <param name="Size">Bytes of an element in QEMU's memory, which for a plain field are those in the stream; 0 if they vary.</param>
/// <param name="Number">How many elements a fixed array has; null if it is none, or an array whose length varies.</param>
/// <param name="State">The layout of a structure.</param>
internal sealed record DumpedField(string Name, int Version, bool Conditional, long Size, int? Number, DumpedState? State)
{
    internal static DumpedField From(JsonElement element, bool hasNumbers) => new(
        element.GetProperty("field").GetString()!,
        element.GetProperty("version_id").GetInt32(),
        element.GetProperty("field_exists").GetBoolean(),
        element.GetProperty("size").GetInt64(),
        element.TryGetProperty("num", out var number) ? number.GetInt32() : null,
        element.TryGetProperty("Description", out var description) ? DumpedState.From(description, hasNumbers) : null)
    {
        MayBeArray = !element.TryGetProperty("num", out _) && (!hasNumbers || element.TryGetProperty("Description", out _)),
    };

    internal bool IsStruct => State is not null;

    /// <summary>True if it may be an array whose length the stream or a property gives, so that it may be empty.</summary>
    internal bool MayBeArray { get; init; }
}
