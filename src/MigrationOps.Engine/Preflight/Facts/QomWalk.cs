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
    private const string Link = "link<";
    private const string Bus = "parent_bus";
    private const string OfDevices = "hotplugged";
    private const string VirtioBackend = "/virtio-backend";

    // The same for every device that works, or known without asking. A question costs a round trip.
    private static readonly HashSet<string> NotRead = ["type", OfDevices, "hotpluggable", "realized", "hotplug-handler"];

    private static readonly string[] Roots = ["/machine", "/objects"];

    // They have no state of their own and no property that a migration depends on; a machine has hundreds.
    private static readonly string[] Passed = ["memory-region", "irq", "reset-container"];

    private static readonly string[] OfCpu = ["feature-words", "filtered-features", "phys-bits", "tsc-frequency", "invtsc", "level", "xlevel", "family", "model", "stepping", "vendor"];

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
                await FactReader.ForEachAsync(level, async node =>
                {
                    if (await ListAsync(node.Path, cancellationToken).ConfigureAwait(false) is { } list)
                    {
                        read[node.Path] = list;
                    }
                }, false, cancellationToken).ConfigureAwait(false);
            }

            var next = new List<(string Path, string Type)>();
            var values = new ConcurrentDictionary<(string Path, string Property), JsonElement>();
            var wanted = new List<(string Path, string Property)>();
            // What QEMU does not list is not there to be judged.
            level.RemoveAll(node => !read.ContainsKey(node.Path));
            foreach (var (path, type) in level)
            {
                bool withValues = !IsCpu(type) || _models.Add(type);
                var isWanted = IsCpu(type) ? (Func<string, bool>)IsOfCpu : _ => true;
                foreach (var property in read[path])
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
                        if (!IsRead(path, type, name, kind))
                        {
                            continue;
                        }

                        values[(path, name)] = value;
                    }
                    else if (withValues && isWanted(name) && IsRead(path, type, name, kind) && (Roots.Contains(path) || IsCpu(type) || PropertyRules.IsWorthAsking(type, name, kind) || name == Bus) && !schema.HasCommand("qom-list-get"))
                    {
                        wanted.Add((path, name));
                    }
                }
            }

            await FactReader.ForEachAsync(wanted, async property =>
            {
                if (await GetAsync(property.Path, property.Property, cancellationToken).ConfigureAwait(false) is { } value)
                {
                    values[property] = value;
                }
            }, false, cancellationToken).ConfigureAwait(false);
            var byPath = values.ToLookup(pair => pair.Key.Path);
            _objects.AddRange(level.Select(node => new QomObject(node.Path, TypeOf(node, byPath), byPath[node.Path].ToDictionary(pair => pair.Key.Property, pair => pair.Value, StringComparer.Ordinal))
            {
                IsDevice = read[node.Path].Any(property => property.Text("name") == OfDevices),
            }));
            level = next;
        }

        return _objects;
    }

    /// <summary>The same CPU with the flag of each of its features.</summary>
    internal async Task<QomObject> ReadFlagsAsync(QomObject cpu, CancellationToken cancellationToken)
    {
        var flags = new ConcurrentDictionary<string, JsonElement>(cpu.Properties, StringComparer.Ordinal);
        var names = (await ListAsync(cpu.Path, cancellationToken).ConfigureAwait(false) ?? []).Where(property => property.Text("type") == "bool").Select(property => property.Text("name")!);
        await FactReader.ForEachAsync(names.Where(name => !flags.ContainsKey(name)), async name =>
        {
            if (await GetAsync(cpu.Path, name, cancellationToken).ConfigureAwait(false) is { } value)
            {
                flags[name] = value;
            }
        }, false, cancellationToken).ConfigureAwait(false);
        return cpu with { Properties = flags };
    }

    // What a virtio device has beside its proxy's properties, the proxy shows as its own.
    private static bool IsRead(string path, string type, string name, string kind)
        => name == Bus || (type == DeviceFacts.UsbBus && name.StartsWith(DeviceFacts.ChildOfBus, StringComparison.Ordinal)) || Roots.Contains(path) || (!NotRead.Contains(name) && !kind.StartsWith(Link, StringComparison.Ordinal) && !path.EndsWith(VirtioBackend, StringComparison.Ordinal));

    // The words have all features of a CPU; their flags by name are read when they differ.
    private static bool IsOfCpu(string property) => OfCpu.Contains(property) || property.StartsWith("hv-", StringComparison.Ordinal) || property.StartsWith("kvm-", StringComparison.Ordinal);

    private static bool IsCpu(string type) => type.EndsWith("-cpu", StringComparison.Ordinal);

    private static string? ChildType(string kind) => kind.StartsWith(Child, StringComparison.Ordinal) ? kind[Child.Length..^1] : null;

    // The roots have no parent that tells their type.
    private static string TypeOf((string Path, string Type) node, ILookup<string, KeyValuePair<(string Path, string Property), JsonElement>> values)
        => Roots.Contains(node.Path) && values[node.Path].FirstOrDefault(pair => pair.Key.Property == "type").Value is { ValueKind: JsonValueKind.String } type ? type.GetString()! : node.Type;

    private async Task<JsonElement[]?> ListAsync(string path, CancellationToken cancellationToken)
        => (await FactReader.AskAsync(monitor, new QmpCommand("qom-list", new JsonObject { ["path"] = path }), cancellationToken).ConfigureAwait(false)).Value is { } list ? [.. list.Items()] : null;

    private async Task<JsonElement?> GetAsync(string path, string property, CancellationToken cancellationToken)
        => (await FactReader.AskAsync(monitor, new QmpCommand("qom-get", new JsonObject { ["path"] = path, ["property"] = property }), cancellationToken).ConfigureAwait(false)).Value;

    private async Task ReadWholeAsync(List<(string Path, string Type)> level, ConcurrentDictionary<string, JsonElement[]> read, CancellationToken cancellationToken)
    {
        const int PathsAtOnce = 50;
        var parts = new Queue<(string Path, string Type)[]>(level.Chunk(PathsAtOnce));
        while (parts.TryDequeue(out var part))
        {
            var arguments = new JsonObject { ["paths"] = new JsonArray([.. part.Select(node => (JsonNode)node.Path)]) };
            var answer = await FactReader.AskAsync(monitor, new QmpCommand("qom-list-get", arguments), cancellationToken).ConfigureAwait(false);
            if (answer.Value is null && part.Length > 1)
            {
                // One that is gone by now has the others refused with it.
                Array.ForEach(part, node => parts.Enqueue([node]));
                continue;
            }

            int index = 0;
            foreach (var found in answer.Value?.Items() ?? [])
            {
                read[part[index++].Path] = [.. found.Items("properties")];
            }
        }
    }
}
