using System.Text;
using System.Text.Json.Nodes;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>
/// The value of an option of QEMU's command line, taken apart: <c>first,key=value,flag</c> with <c>,,</c> for a comma, or a JSON
/// object. Members of inner JSON objects have names with dots, as QEMU's own notation has.
/// </summary>
internal sealed class OptionProperties
{
    private readonly List<KeyValuePair<string, string>> _members = [];

    /// <summary>The members in order; one without a name has the implied name that was asked for.</summary>
    internal IReadOnlyList<KeyValuePair<string, string>> Members => _members;

    /// <summary>The last value of that name, as QEMU takes it; null if there is none.</summary>
    internal string? this[string name] => _members.FindLast(m => m.Key == name).Value;

    /// <summary>Takes a value apart.</summary>
    /// <param name="value">The text behind the option.</param>
    /// <param name="implied">The name of a first part without one, such as <c>driver</c>.</param>
    internal static OptionProperties Parse(string value, string implied)
    {
        var properties = new OptionProperties();
        if (value.StartsWith('{'))
        {
            properties.AddJson("", JsonNode.Parse(value)!.AsObject());
            return properties;
        }

        bool first = true;
        foreach (string part in Split(value))
        {
            int equals = part.IndexOf('=', StringComparison.Ordinal);
            properties._members.Add(equals >= 0 ? new(part[..equals], part[(equals + 1)..])
                : first ? new(implied, part)
                : part.StartsWith("no", StringComparison.Ordinal) && part.Length > 2 ? new(part[2..], "off")
                : new(part, "on"));
            first = false;
        }

        return properties;
    }

    internal void Set(string name, string value)
    {
        int index = _members.FindIndex(m => m.Key == name);
        if (index < 0)
        {
            _members.Add(new(name, value));
        }
        else
        {
            _members[index] = new(name, value);
        }
    }

    /// <summary>Removes the members whose name the predicate takes.</summary>
    internal void Remove(Predicate<string> name) => _members.RemoveAll(m => name(m.Key));

    internal bool IsOn(string name) => this[name] is "on" or "true" or "yes" or "y";

    /// <summary>The value in QEMU's notation of keys and values.</summary>
    public override string ToString() => string.Join(',', _members.Select(m => $"{m.Key}={m.Value.Replace(",", ",,", StringComparison.Ordinal)}"));

    private static IEnumerable<string> Split(string value)
    {
        var part = new StringBuilder();
        for (int i = 0; i < value.Length; i++)
        {
            if (value[i] != ',')
            {
                part.Append(value[i]);
            }
            else if (i + 1 < value.Length && value[i + 1] == ',')
            {
                part.Append(',');
                i++;
            }
            else
            {
                yield return part.ToString();
                part.Clear();
            }
        }

        if (part.Length > 0)
        {
            yield return part.ToString();
        }
    }

    private void AddJson(string prefix, JsonObject json)
    {
        foreach (var (name, node) in json)
        {
            switch (node)
            {
                case JsonObject inner:
                    AddJson(prefix + name + ".", inner);
                    break;
                case JsonArray list:
                    for (int i = 0; i < list.Count; i++)
                    {
                        AddJson($"{prefix}{name}.", new JsonObject { [i.ToString(System.Globalization.CultureInfo.InvariantCulture)] = list[i]?.DeepClone() });
                    }

                    break;
                case JsonValue value when value.TryGetValue(out bool flag):
                    _members.Add(new(prefix + name, flag ? "on" : "off"));
                    break;
                case not null:
                    _members.Add(new(prefix + name, node.ToString()));
                    break;
            }
        }
    }
}
