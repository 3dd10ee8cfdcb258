using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Architecture;

/// <summary>
/// The public API stands in a committed text file, so that every change of it is seen and meant. Run the test with
/// MIGRATIONOPS_WRITE_API=1 to write the file anew.
/// </summary>
public class PublicApiTests
{
    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic
        | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    [Theory]
    [InlineData("MigrationOps.Engine")]
    [InlineData("MigrationOps.Shared")]
    public void The_public_api_is_the_one_that_was_agreed_on(string name)
    {
        var assembly = name == "MigrationOps.Engine" ? typeof(WireException).Assembly : typeof(MigrationOpsException).Assembly;
        string[] now = [.. Describe(assembly)];
        string file = Path.Combine(Repository.Root, "tests", "MigrationOps.Engine.Tests", "Architecture", name + ".api.txt");
        if (Environment.GetEnvironmentVariable("MIGRATIONOPS_WRITE_API") == "1")
        {
            File.WriteAllLines(file, now);
        }

        string[] agreed = File.ReadAllLines(file);
        var report = new StringBuilder();
        report.AppendJoin('\n', now.Except(agreed).Select(line => "new:  " + line).Concat(agreed.Except(now).Select(line => "gone: " + line)));
        Assert.True(report.Length == 0, $"The public API has changed. If that is meant, run this test with MIGRATIONOPS_WRITE_API=1 and commit the file.\n{report}");
        Assert.Equal(agreed, now);
    }

    private static IEnumerable<string> Describe(Assembly assembly) => assembly.GetExportedTypes()
        .SelectMany(type => MembersOf(type).Select(member => $"{Name(type)}.{member}").Prepend(Head(type)))
        .Order(StringComparer.Ordinal).Distinct();

    private static string Head(Type type)
    {
        string kind = type.IsEnum ? "enum" : type.IsInterface ? "interface" : type.IsValueType ? "struct"
            : type.IsSealed && type.IsAbstract ? "static class" : type.IsSealed ? "sealed class" : type.IsAbstract ? "abstract class" : "class";
        string inherits = type.BaseType is { } parent && parent != typeof(object) && parent != typeof(ValueType) && parent != typeof(Enum)
            ? " : " + Name(parent) : "";
        return $"{Name(type)} ({kind}{inherits})";
    }

    private static IEnumerable<string> MembersOf(Type type)
    {
        foreach (var member in type.GetMembers(Declared).Where(IsOurs))
        {
            switch (member)
            {
                case FieldInfo field when type.IsEnum && field.IsLiteral:
                    yield return $"{field.Name} = {field.GetRawConstantValue()}";
                    break;
                case FieldInfo field when !type.IsEnum && IsVisible(field.Attributes):
                    yield return $"{field.Name}: {Name(field.FieldType)}{(field.IsLiteral ? $" = {field.GetRawConstantValue()}" : "")}";
                    break;
                case PropertyInfo property when property.GetAccessors(true).Any(accessor => IsVisible(accessor)):
                    string get = property.GetMethod is { } getter && IsVisible(getter) ? "get " : "";
                    string set = property.SetMethod is { } setter && IsVisible(setter)
                        ? setter.ReturnParameter.GetRequiredCustomModifiers().Contains(typeof(IsExternalInit)) ? "init " : "set " : "";
                    yield return $"{property.Name}: {Name(property.PropertyType)} {{ {get}{set}}}";
                    break;
                case EventInfo raised when raised.AddMethod is { } add && IsVisible(add):
                    yield return $"event {raised.Name}: {Name(raised.EventHandlerType!)}";
                    break;
                case ConstructorInfo constructor when IsVisible(constructor):
                    yield return $"new({Parameters(constructor)})";
                    break;
                case MethodInfo method when IsVisible(method) && !method.IsSpecialName && method.GetBaseDefinition() == method:
                    yield return $"{method.Name}({Parameters(method)}): {Name(method.ReturnType)}";
                    break;
            }
        }
    }

    // What the compiler writes for records is no decision of ours.
    private static bool IsOurs(MemberInfo member)
        => member.GetCustomAttribute<CompilerGeneratedAttribute>() is null && !member.Name.Contains('<')
            && member.Name is not ("Deconstruct" or "PrintMembers" or "EqualityContract" or "value__");

    private static bool IsVisible(MethodBase method) => method.IsPublic || method.IsFamily || method.IsFamilyOrAssembly;

    private static bool IsVisible(FieldAttributes attributes)
        => (attributes & FieldAttributes.FieldAccessMask) is FieldAttributes.Public or FieldAttributes.Family;

    private static string Parameters(MethodBase method)
        => string.Join(", ", method.GetParameters().Select(parameter => $"{Name(parameter.ParameterType)} {parameter.Name}{(parameter.IsOptional ? "?" : "")}"));

    private static string Name(Type type)
    {
        if (type.IsByRef)
        {
            return "ref " + Name(type.GetElementType()!);
        }

        if (type.IsArray)
        {
            return Name(type.GetElementType()!) + "[]";
        }

        if (type.IsGenericParameter)
        {
            return type.Name;
        }

        string own = type.IsNested ? Name(type.DeclaringType!) + "." + type.Name
            : type.Namespace is { } space && space.StartsWith("MigrationOps") ? type.FullName!.Split('[')[0] : type.Name;
        return type.IsGenericType
            ? $"{own.Split('`')[0]}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>"
            : own;
    }
}
