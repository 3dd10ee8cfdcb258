using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>
/// Reads QEMU's object model below /machine and /objects, level by level: with qom-list-get (10.1 and later) a level is one command, else
/// each object and each property is one. QEMU's own tests read every property of every machine in this way.
/// </summary>
internal sealed class QomWalk(QmpMonitor monitor, QmpSchema schema)
{
    private const int MostObjects = 20_000;
    private const string Child = "child<";

    private static readonly string[] Roots = ["/machine", "/objects"];

    // They have no state of their own and no property that a migration depends on; a machine has hundreds.
    private static readonly string[] Passed = ["memory-region", "irq", "reset-container"];

    // Models of one machine's CPUs are alike: the properties of the first, some hundred features, are those of all.
    private readonly HashSet<string> _models = new(StringComparer.Ordinal);
    private readonly List<QomObject> _objects = [];

    internal async Task<IReadOnlyList<QomObject>> ReadAsync(CancellationToken cancellationToken)
    {
        var level = Roots.Select(path => (Path: path, Type: path[1..])).ToList();
        while (level.Count > 0 && _objects.Count < MostObjects)
        {
            var read = new ConcurrentDictionary<string, JsonElement[]>(StringComparer.Ordinal);
            if (schema.HasCommand("qom-list-get"))
            {
                await ReadWholeAsync(level, read, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await FactReader.ForEachAsync(level, async node => read[node.Path] = await ListAsync(node.Path, cancellationToken).ConfigureAwait(false), false, cancellationToken).ConfigureAwait(false);
            }

            var next = new List<(string Path, string Type)>();
            var values = new ConcurrentDictionary<(string Path, string Property), JsonElement>();
            var wanted = new List<(string Path, string Property)>();
            foreach (var (path, type) in level)
            {
                bool withValues = !IsCpu(type) || _models.Add(type);
                foreach (var property in read.GetValueOrDefault(path, []))
                {
                    string name = property.Text("name") ?? "", kind = property.Text("type") ?? "";
                    if (ChildType(kind) is { } child)
                    {
                        if (!Passed.Contains(child) && !child.EndsWith("memory-region", StringComparison.Ordinal))
                        {
                            next.Add(($"{path}/{name}", child));
                        }
                    }
                    else if (property.Member("value") is { } value)
                    {
                        values[(path, name)] = value;
                    }
                    else if (withValues && !schema.HasCommand("qom-list-get"))
                    {
                        wanted.Add((path, name));
                    }
                }
            }

            await FactReader.ForEachAsync(wanted, async property =>
            {
                var arguments = new JsonObject { ["path"] = property.Path, ["property"] = property.Property };
                if ((await FactReader.AskAsync(monitor, new QmpCommand("qom-get", arguments), cancellationToken).ConfigureAwait(false)).Value is { } value)
                {
                    values[property] = value;
                }
            }, false, cancellationToken).ConfigureAwait(false);
            var byPath = values.ToLookup(pair => pair.Key.Path);
            _objects.AddRange(level.Select(node => new QomObject(node.Path, TypeOf(node, byPath), byPath[node.Path].ToDictionary(pair => pair.Key.Property, pair => pair.Value, StringComparer.Ordinal))));
            level = next;
        }

        return _objects;
    }

    private static bool IsCpu(string type) => type.EndsWith("-cpu", StringComparison.Ordinal);

    private static string? ChildType(string kind) => kind.StartsWith(Child, StringComparison.Ordinal) ? kind[Child.Length..^1] : null;

    // The roots have no parent that tells their type.
    private static string TypeOf((string Path, string Type) node, ILookup<string, KeyValuePair<(string Path, string Property), JsonElement>> values)
        => Roots.Contains(node.Path) && values[node.Path].FirstOrDefault(pair => pair.Key.Property == "type").Value is { ValueKind: JsonValueKind.String } type ? type.GetString()! : node.Type;

    private async Task<JsonElement[]> ListAsync(string path, CancellationToken cancellationToken)
        => (await FactReader.AskAsync(monitor, new QmpCommand("qom-list", new JsonObject { ["path"] = path }), cancellationToken).ConfigureAwait(false)).Value is { } list ? [.. list.Items()] : [];

    private async Task ReadWholeAsync(List<(string Path, string Type)> level, ConcurrentDictionary<string, JsonElement[]> read, CancellationToken cancellationToken)
    {
        const int PathsAtOnce = 50;
        foreach (var part in level.Chunk(PathsAtOnce))
        {
            var arguments = new JsonObject { ["paths"] = new JsonArray([.. part.Select(node => (JsonNode)node.Path)]) };
            var answer = await FactReader.AskAsync(monitor, new QmpCommand("qom-list-get", arguments), cancellationToken).ConfigureAwait(false);
            int index = 0;
            foreach (var found in answer.Value?.Items() ?? [])
            {
                read[part[index++].Path] = [.. found.Items("properties")];
            }
        }
    }
}
