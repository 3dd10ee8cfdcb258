using System.Collections;
using System.Globalization;
using System.Management.Automation;
using System.Reflection;
using System.Runtime.CompilerServices;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// Makes a record of this module again of what remoting, a job or Import-Clixml made of it: a bag of properties. Numbers, texts, enumerations,
/// times, arrays and records within records come back; what a record computes is computed again.
/// </summary>
internal static class PlainRecords
{
    /// <summary>The record; null if the object was none of this type.</summary>
    internal static T? Read<T>(object? value)
        where T : class
    {
        object? plain = (value as PSObject)?.BaseObject ?? value;
        return plain as T ?? (value is PSObject bag && bag.TypeNames.Contains("Deserialized." + typeof(T).FullName) ? (T)Make(typeof(T), bag) : null);
    }

    private static object Make(Type type, PSObject bag)
    {
        object record = RuntimeHelpers.GetUninitializedObject(type);
        foreach (var property in type.GetProperties(BindingFlags.Public | BindingFlags.Instance).Where(property => property.CanWrite))
        {
            property.SetValue(record, Convert(bag.Properties[property.Name]?.Value, property.PropertyType));
        }

        return record;
    }

    private static object? Convert(object? value, Type type)
    {
        object? plain = (value as PSObject)?.BaseObject ?? value;
        if (type.IsArray)
        {
            var element = type.GetElementType()!;
            object?[] items = plain is IList list ? [.. list.Cast<object?>().Select(item => Convert(item, element))] : plain is null ? [] : [Convert(value, element)];
            var array = Array.CreateInstance(element, items.Length);
            items.CopyTo(array, 0);
            return array;
        }

        return plain is null || type.IsInstanceOfType(plain) ? plain
            : value is PSObject bag && type.Namespace == typeof(QemuHost).Namespace && type.IsClass ? Make(type, bag)
            : LanguagePrimitives.ConvertTo(plain, type, CultureInfo.InvariantCulture);
    }
}
