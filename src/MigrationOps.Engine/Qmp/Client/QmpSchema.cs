using System.Collections.Concurrent;
using System.Text.Json;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// What a QEMU offers, from its query-qmp-schema: commands, their arguments, values of enumerations, events. Decisions go
/// by this and never by the version, because distributors move features between versions.
/// </summary>
internal sealed class QmpSchema
{
    private const int MostKept = 16;

    private static readonly ConcurrentDictionary<QmpVersion, QmpSchema> Kept = new();

    private readonly Dictionary<string, JsonElement> _commands = new(StringComparer.Ordinal);
    private readonly Dictionary<string, JsonElement> _events = new(StringComparer.Ordinal);
    private readonly Dictionary<string, JsonElement> _types = new(StringComparer.Ordinal);

    private QmpSchema(JsonElement schema)
    {
        foreach (var entity in schema.Items())
        {
            if (entity.Text("name") is { } name)
            {
                (entity.Text("meta-type") switch
                {
                    "command" => _commands,
                    "event" => _events,
                    _ => _types,
                })[name] = entity;
            }
        }
    }

    /// <summary>The names of the commands, sorted.</summary>
    internal IReadOnlyList<string> Commands => [.. _commands.Keys.Order(StringComparer.Ordinal)];

    /// <summary>The names of the events, sorted.</summary>
    internal IReadOnlyList<string> Events => [.. _events.Keys.Order(StringComparer.Ordinal)];

    /// <summary>Reads the answer of query-qmp-schema.</summary>
    internal static QmpSchema Read(JsonElement schema) => new(schema);

    /// <summary>The schema of a QEMU that was asked before, by its version and package.</summary>
    internal static QmpSchema? Find(QmpVersion version) => Kept.GetValueOrDefault(version);

    /// <summary>Keeps a schema for the next monitor of the same QEMU.</summary>
    internal QmpSchema Keep(QmpVersion version)
    {
        // A host has few versions; whoever goes through many asks again.
        if (Kept.Count >= MostKept)
        {
            Kept.Clear();
        }

        return Kept.GetOrAdd(version, this);
    }

    internal bool HasCommand(string command) => _commands.ContainsKey(command);

    internal bool HasEvent(string name) => _events.ContainsKey(name);

    internal bool AllowsOutOfBand(string command) => _commands.TryGetValue(command, out var entity) && entity.Flag("allow-oob") == true;

    /// <summary>The arguments of a command, those of all its variants; none if the command is not there.</summary>
    internal IReadOnlyList<QmpArgument> ArgumentsOf(string command)
        => _commands.TryGetValue(command, out var entity) && entity.Text("arg-type") is { } type ? MembersOf(type) : [];

    /// <summary>
    /// True if a command takes an argument: a name, or names joined by dots for members of members, such as
    /// <c>channels.channel-type</c>.
    /// </summary>
    internal bool HasArgument(string command, string path) => ResolveArgument(command, path) is not null;

    /// <summary>The values of an argument that is an enumeration, such as (<c>migrate-set-capabilities</c>,
    /// <c>capabilities.capability</c>); none if it is not there or is no enumeration.</summary>
    internal IReadOnlyList<string> ValuesOf(string command, string path)
        => ResolveArgument(command, path) is { } argument && ElementType(argument.Type) is { } type && _types.TryGetValue(type, out var entity)
            ? ValuesOf(entity) : [];

    /// <summary>The members of what a command returns: as <see cref="HasArgument"/>, for its answer.</summary>
    internal bool Returns(string command, string path)
        => _commands.TryGetValue(command, out var entity) && entity.Text("ret-type") is { } type && Resolve(type, path) is not null;

    private QmpArgument? ResolveArgument(string command, string path)
        => _commands.TryGetValue(command, out var entity) && entity.Text("arg-type") is { } type ? Resolve(type, path) : null;

    private QmpArgument? Resolve(string type, string path)
    {
        QmpArgument? found = null;
        foreach (string name in path.Split('.'))
        {
            found = MembersOf(ElementType(type)).FirstOrDefault(member => member.Name == name);
            if (found is null)
            {
                return null;
            }

            type = found.Type;
        }

        return found;
    }

    private string ElementType(string type)
        => _types.TryGetValue(type, out var entity) && entity.Text("meta-type") == "array" && entity.Text("element-type") is { } element ? element : type;

    private List<QmpArgument> MembersOf(string type)
    {
        var members = new List<QmpArgument>();
        if (!_types.TryGetValue(type, out var entity))
        {
            return members;
        }

        Add(members, entity);
        foreach (var variant in entity.Items("variants").Concat(entity.Items("members").Where(member => member.Text("name") is null)))
        {
            if (variant.Text("type") is { } other && _types.TryGetValue(other, out var more))
            {
                Add(members, more);
            }
        }

        return members;
    }

    private void Add(List<QmpArgument> members, JsonElement entity)
    {
        foreach (var member in entity.Items("members"))
        {
            if (member.Text("name") is { } name && member.Text("type") is { } type && members.TrueForAll(known => known.Name != name))
            {
                // A default in the schema is what makes a member optional.
                members.Add(new QmpArgument(name, type, TypeName(type), member.TryGetProperty("default", out _)));
            }
        }
    }

    private string TypeName(string type)
    {
        if (!_types.TryGetValue(type, out var entity))
        {
            return type;
        }

        return entity.Text("meta-type") switch
        {
            "builtin" => type,
            "enum" => string.Join('|', ValuesOf(entity)),
            "array" => TypeName(ElementType(type)) + "[]",
            _ => "object",
        };
    }

    // "members" since 7.0, with features; "values" is the older form that is still sent.
    private static string[] ValuesOf(JsonElement entity)
        => entity.Member("values") is not null ? entity.Texts("values")
            : [.. entity.Items("members").Select(member => member.Text("name")).OfType<string>()];
}

/// <summary>One argument of a command, or one member of an argument.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">The schema's own name of its type, a number in text.</param>
/// <param name="TypeName">Its type for people: str, int, an enumeration's values, object, with [] for a list.</param>
/// <param name="IsOptional">True if it may be left out.</param>
internal sealed record QmpArgument(string Name, string Type, string TypeName, bool IsOptional);
