using System.Collections;
using System.Globalization;
using System.Management.Automation;
using System.Net;
using System.Runtime.InteropServices;
using System.Security;
using System.Text.Json;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>PowerShell's values as QMP's and back: objects keep QEMU's own member names.</summary>
internal static class QmpObjects
{
    private const int Deepest = 100;

    /// <summary>Arguments of a command.</summary>
    /// <exception cref="QmpException"><see cref="QmpError.InvalidArgument"/> for what JSON cannot carry; the value is not in the message.</exception>
    internal static JsonObject? ToArguments(IDictionary? arguments) => arguments is null ? null : ToObject(arguments, "arguments", 0);

    /// <summary>What a command returned: objects with note properties, lists as arrays; null for an empty object.</summary>
    internal static object? FromJson(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => FromObject(value),
        JsonValueKind.Array => value.EnumerateArray().Select(FromJson).ToArray(),
        JsonValueKind.String => value.GetString(),
        JsonValueKind.Number => value.TryGetInt64(out long whole) ? (object)whole : value.TryGetUInt64(out ulong large) ? large : value.GetDouble(),
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => null,
    };

    private static PSObject FromObject(JsonElement value)
    {
        var result = new PSObject();
        foreach (var member in value.EnumerateObject())
        {
            // A name that differs only in its case cannot be a second property; the first one stays.
            if (result.Properties[member.Name] is null)
            {
                result.Properties.Add(new PSNoteProperty(member.Name, FromJson(member.Value)));
            }
        }

        return result;
    }

    private static JsonObject ToObject(IDictionary values, string path, int depth)
    {
        var result = new JsonObject();
        foreach (DictionaryEntry entry in values)
        {
            string name = Convert.ToString(entry.Key, CultureInfo.InvariantCulture) ?? "";
            result[name] = ToNode(entry.Value, $"{path}.{name}", depth + 1);
        }

        return result;
    }

    private static JsonNode? ToNode(object? value, string path, int depth)
    {
        if (depth > Deepest)
        {
            throw new QmpException(QmpError.InvalidArgument, $"'{path}' is nested too deeply, or contains itself.");
        }

        object? plain = value is PSObject wrapped && wrapped.BaseObject is not PSCustomObject ? wrapped.BaseObject : value;
        return plain switch
        {
            null => null,
            string text => text,
            bool flag => flag,
            SwitchParameter flag => flag.ToBool(),
            char letter => letter.ToString(),
            byte or sbyte or short or ushort or int or uint or long => Convert.ToInt64(plain, CultureInfo.InvariantCulture),
            ulong number => number,
            float or double or decimal => Convert.ToDouble(plain, CultureInfo.InvariantCulture),
            Enum name => name.ToString(),
            Guid id => id.ToString(),
            IPAddress address => address.ToString(),
            SecureString secret => Plain(secret),
            PSCredential credential => Plain(credential.Password),
            IDictionary values => ToObject(values, path, depth),
            IEnumerable items => new JsonArray([.. items.Cast<object?>().Select((item, i) => ToNode(item, $"{path}[{i}]", depth + 1))]),
            PSObject custom => FromProperties(custom, path, depth),
            _ => throw new QmpException(QmpError.InvalidArgument, $"'{path}' is of type {plain.GetType().Name}, which QMP cannot carry."),
        };
    }

    private static JsonObject FromProperties(PSObject custom, string path, int depth)
    {
        var result = new JsonObject();
        foreach (var property in custom.Properties)
        {
            result[property.Name] = ToNode(property.Value, $"{path}.{property.Name}", depth + 1);
        }

        return result;
    }

    private static string Plain(SecureString secret)
    {
        nint text = Marshal.SecureStringToGlobalAllocUnicode(secret);
        try
        {
            return Marshal.PtrToStringUni(text) ?? "";
        }
        finally
        {
            Marshal.ZeroFreeGlobalAllocUnicode(text);
        }
    }
}
