using System.Text;
using System.Text.Json;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// Parses the description's JSON, strictly: what QEMU does not write is an error, because a description that is wrong
/// somewhere is trusted nowhere. Keys may come twice in the fields of a list (one set per element), which no JSON tree keeps.
/// </summary>
internal ref struct DescriptionParser
{
    private const int MaxDepth = 128;

    // About what a field's record, its names' share and its place in an array take.
    private const int BytesPerField = 112;

    private readonly MemoryBudget _budget;
    private readonly Dictionary<string, string> _names;
    private readonly byte[] _scratch;
    private Utf8JsonReader _json;

    private DescriptionParser(ReadOnlySpan<byte> json, MemoryBudget budget)
    {
        _budget = budget;
        _names = [];
        _scratch = new byte[512];
        _json = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = MaxDepth });
    }

    internal static StreamDescription Parse(ReadOnlySpan<byte> json, MemoryBudget budget)
    {
        var parser = new DescriptionParser(json, budget);
        try
        {
            return parser.ParseRoot();
        }
        catch (JsonException e)
        {
            throw new StreamException(StreamError.InvalidDescription,
                $"The description is not JSON at its byte {parser._json.BytesConsumed:N0}: {e.Message}", e);
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException or OverflowException)
        {
            throw parser.Invalid("a value of another kind than QEMU writes");
        }
    }

    private StreamDescription ParseRoot()
    {
        int? pageSize = null;
        DescribedState? configuration = null;
        List<DescribedState>? devices = null;
        _json.Read();
        Expect(JsonTokenType.StartObject);
        while (NextKey() is { } key)
        {
            switch (key)
            {
                case "configuration" when configuration is null:
                    configuration = ParseState(StateKind.Plain);
                    break;
                case "page_size" when pageSize is null:
                    pageSize = _json.GetInt32();
                    break;
                case "devices" when devices is null:
                    devices = ParseStates(StateKind.Device);
                    break;
                default:
                    throw Invalid($"the key '{key}'");
            }
        }

        if (pageSize is not (>= StreamFormat.MinPageSize and <= StreamFormat.MaxPageSize) || !int.IsPow2(pageSize.Value) || devices is null)
        {
            throw Invalid(devices is null ? "no 'devices'" : $"a 'page_size' of {pageSize?.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? "nothing"}, expected a power of two from {StreamFormat.MinPageSize} to {StreamFormat.MaxPageSize}");
        }

        while (_json.Read())
        {
        }

        return new StreamDescription(pageSize.Value, configuration, devices);
    }

    private enum StateKind
    {
        Plain,
        Device,
    }

    private List<DescribedState> ParseStates(StateKind kind)
    {
        Expect(JsonTokenType.StartArray);
        var states = new List<DescribedState>();
        while (_json.Read() && _json.TokenType != JsonTokenType.EndArray)
        {
            states.Add(ParseState(kind));
        }

        return states;
    }

    private DescribedState ParseState(StateKind kind)
    {
        Expect(JsonTokenType.StartObject);
        _budget.Take(BytesPerField, "the stream's description");
        string? name = null, vmsdName = null;
        uint? instance = null;
        int? version = null;
        long? size = null;
        DescribedField[]? fields = null;
        DescribedState[]? subsections = null;
        while (NextKey() is { } key)
        {
            switch (key)
            {
                case "name" when kind == StateKind.Device && name is null:
                    name = Text();
                    break;
                case "instance_id" when kind == StateKind.Device && instance is null:
                    instance = unchecked((uint)_json.GetInt64());
                    break;
                case "size" when kind == StateKind.Device && size is null:
                    size = Size();
                    break;
                case "vmsd_name" when vmsdName is null:
                    vmsdName = Text();
                    break;
                case "version" when version is null:
                    version = _json.GetInt32();
                    break;
                case "fields" when fields is null:
                    fields = ParseFields();
                    break;
                case "subsections" when subsections is null:
                    subsections = [.. ParseStates(StateKind.Plain)];
                    break;
                default:
                    throw Invalid($"the key '{key}' in {name ?? vmsdName ?? "a structure"}");
            }
        }

        if (fields is null || (kind == StateKind.Device && (name is null || instance is null)) || (vmsdName is null) != (version is null)
            || (kind == StateKind.Plain && vmsdName is null) || (vmsdName is null && size is null))
        {
            throw Invalid($"{name ?? vmsdName ?? "a structure"} without all its keys");
        }

        var state = new DescribedState
        {
            Name = name ?? "",
            InstanceId = instance ?? 0,
            VmsdName = vmsdName ?? "",
            Version = version ?? 0,
            Fields = fields,
            Subsections = subsections ?? [],
        };
        return size is null || size == state.ByteLength ? state : throw Invalid($"{name} of {size:N0} bytes with fields of {state.ByteLength:N0}");
    }

    private DescribedField[] ParseFields()
    {
        Expect(JsonTokenType.StartArray);
        var fields = new List<DescribedField>();
        while (_json.Read() && _json.TokenType != JsonTokenType.EndArray)
        {
            fields.Add(ParseField());
        }

        return [.. fields];
    }

    private DescribedField ParseField()
    {
        Expect(JsonTokenType.StartObject);
        _budget.Take(BytesPerField, "the stream's description");
        string? name = null, type = null;
        long? size = null;
        int? arrayLength = null, index = null;
        List<DescribedState>? states = null;
        string? vmsdName = null;
        int? version = null;
        while (NextKey() is { } key)
        {
            switch (key)
            {
                case "name" when name is null:
                    name = Text();
                    break;
                case "type" when type is null:
                    type = Text();
                    break;
                case "size" when size is null:
                    size = Size();
                    break;
                case "array_len" when arrayLength is null:
                    arrayLength = _json.GetInt32();
                    break;
                case "index" when index is null:
                    index = _json.GetInt32();
                    break;
                case "struct" when states is null:
                    states = [ParseState(StateKind.Plain)];
                    break;

                // A list has these three once for each of its elements, a vstruct once.
                case "vmsd_name" when vmsdName is null:
                    vmsdName = Text();
                    break;
                case "version" when version is null:
                    version = _json.GetInt32();
                    break;
                case "fields" when vmsdName is not null && version is not null:
                    (states ??= []).Add(new DescribedState { VmsdName = vmsdName, Version = version.Value, Fields = ParseFields() });
                    (vmsdName, version) = (null, null);
                    break;
                case "subsections" when states is { Count: > 0 } && vmsdName is null:
                    states[^1] = new DescribedState
                    {
                        VmsdName = states[^1].VmsdName,
                        Version = states[^1].Version,
                        Fields = states[^1].Fields,
                        Subsections = [.. ParseStates(StateKind.Plain)],
                    };
                    break;
                default:
                    throw Invalid($"the key '{key}' in field {name}");
            }
        }

        if (name is null || type is null || size is null || arrayLength is < 1 || index is < 0 || (arrayLength is not null && index is not null)
            || (type == "struct" && states is not [_]))
        {
            throw Invalid($"the field '{name}' without all its keys, or with impossible ones");
        }

        var field = new DescribedField(name, type, size.Value, arrayLength, index, states is null ? [] : [.. states]);
        return type == "struct" && field.States[0].ByteLength != size
            ? throw Invalid($"the field '{name}' of {size:N0} bytes with members of {field.States[0].ByteLength:N0}")
            : field;
    }

    /// <summary>The next key of the object, with the reader on its value; null at the object's end.</summary>
    private string? NextKey()
    {
        if (!_json.Read() || _json.TokenType == JsonTokenType.EndObject)
        {
            return null;
        }

        string key = Text();
        _json.Read();
        return key;
    }

    private long Size()
    {
        long size = _json.GetInt64();
        return size is >= 0 and <= int.MaxValue ? size : throw Invalid($"a size of {size:N0} bytes");
    }

    // The same few names stand in every structure; one string each is kept.
    private string Text()
    {
        if (_json.TokenType is not (JsonTokenType.String or JsonTokenType.PropertyName))
        {
            throw Invalid("expected a string, found another value");
        }

        if (_json.ValueSpan.Length > _scratch.Length)
        {
            throw Invalid($"a name of {_json.ValueSpan.Length:N0} bytes");
        }

        int length = _json.CopyString(_scratch);
        string text = Encoding.UTF8.GetString(_scratch, 0, length);
        if (_names.TryGetValue(text, out string? known))
        {
            return known;
        }

        _budget.Take(64 + (2 * text.Length), "the stream's description");
        _names.Add(text, text);
        return text;
    }

    private readonly void Expect(JsonTokenType type)
    {
        if (_json.TokenType != type)
        {
            throw Invalid($"expected {type}, found {_json.TokenType}");
        }
    }

    private readonly StreamException Invalid(string what)
        => new(StreamError.InvalidDescription, $"The description has {what} at its byte {_json.TokenStartIndex:N0}.")
        { Section = "description" };
}
