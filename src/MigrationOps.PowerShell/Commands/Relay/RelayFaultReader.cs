using System.Collections;
using System.Management.Automation;
using MigrationOps.Engine.Relay;

namespace MigrationOps.PowerShell.Commands;

/// <summary>Reads a fault as a user writes it: <c>@{ Kind = 'Break'; After = 'Shut' }</c>.</summary>
internal static class RelayFaultReader
{
    private static readonly string[] Places = ["After", "Before", "In"];

    /// <summary>Reads one.</summary>
    /// <exception cref="RelayException"><see cref="RelayError.InvalidFault"/>.</exception>
    internal static RelayFault Read(Hashtable text)
    {
        var values = text.Cast<DictionaryEntry>().ToDictionary(entry => $"{entry.Key}", entry => entry.Value, StringComparer.OrdinalIgnoreCase);
        var kind = Take<RelayFaultKind>(values, "Kind") ?? throw Invalid("it has no Kind", Names<RelayFaultKind>());
        string[] places = [.. Places.Where(values.ContainsKey)];
        if (places.Length != 1)
        {
            throw Invalid(places.Length == 0 ? "it names no element" : $"it has {string.Join(" and ", places)}", "one of After, Before and In with " + Names<RelayPoint>());
        }

        var fault = new RelayFault(kind, Take<RelayPoint>(values, places[0])!.Value)
        {
            Moment = places[0] == "Before" ? RelayMoment.Before : RelayMoment.After,
            Number = Take<int>(values, "Number") ?? 1,
            Channel = Take<int>(values, "Channel"),
            Byte = Take<long>(values, "Byte") ?? 0,
            Time = TimeSpan.FromSeconds(Take<double>(values, "Seconds") ?? 0),
            Section = Take(values, "Section", value => (string)value),
            Bytes = Take(values, "Bytes", value => LanguagePrimitives.ConvertTo<byte[]>(value)),
        };
        if (values.Count > 0)
        {
            throw Invalid($"it has {string.Join(", ", values.Keys)}", "Kind, After, Before, In, Number, Channel, Section, Byte, Bytes and Seconds only");
        }

        Check(fault, places[0]);
        return fault;
    }

    private static void Check(RelayFault fault, string place)
    {
        if (fault.ChangesElement != (place == "In"))
        {
            throw Invalid($"{fault.Kind} goes with {(fault.ChangesElement ? "In" : "After or Before")}", $"{(fault.ChangesElement ? "In" : "After or Before")} instead of {place}");
        }

        if (fault.Number < 1 || fault.Byte < 0 || fault.Channel is < 0 or > 255)
        {
            throw Invalid($"Number {fault.Number}, Byte {fault.Byte} or Channel {fault.Channel} is out of range", "Number from 1, Byte from 0, Channel from 0 to 255");
        }

        if (fault.Kind == RelayFaultKind.Delay != fault.Time > TimeSpan.Zero)
        {
            throw Invalid(fault.Kind == RelayFaultKind.Delay ? "a Delay has no Seconds" : $"{fault.Kind} has Seconds", "Seconds with Delay, and with it alone");
        }

        if (fault.Section is not null && fault.Point != RelayPoint.Section)
        {
            throw Invalid("Section names a section, and the element is none", "Section with the element Section alone");
        }
    }

    private static string Names<T>()
        where T : struct, Enum
        => string.Join(", ", Enum.GetNames<T>());

    private static T? Take<T>(Dictionary<string, object?> values, string name)
        where T : struct
        => values.Remove(name, out object? value) ? Convert<T>(name, value) : null;

    private static T? Take<T>(Dictionary<string, object?> values, string name, Func<object, T> convert)
        where T : class
        => values.Remove(name, out object? value) ? convert(value ?? throw Invalid($"{name} is empty", "a value")) : null;

    private static T Convert<T>(string name, object? value)
        where T : struct
    {
        try
        {
            return LanguagePrimitives.ConvertTo<T>(value);
        }
        catch (PSInvalidCastException)
        {
            throw Invalid($"{name} is '{value}'", typeof(T).IsEnum ? string.Join(", ", Enum.GetNames(typeof(T))) : "a number");
        }
    }

    private static RelayException Invalid(string what, string expected)
        => new(RelayError.InvalidFault, $"A fault of the relay is malformed: {what}. Expected {expected}.");
}
