using System.Buffers;
using System.Reflection;
using System.Runtime.CompilerServices;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Architecture;

/// <summary>
/// Bytes are parsed in the shapes that docs/architecture.md states, in every room. Parsers are found by what they take and give, whatever
/// they are called: who takes bytes and says how many it used, or whether there were enough, is one.
/// </summary>
public class ParserTests
{
    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic
        | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    // A number that is not how many bytes were used.
    private static readonly Dictionary<string, string> OtherNumbers = new()
    {
        ["VfioBody.CountNeededBytes"] = "how many bytes more the next step needs",
        ["SectionReader.CountNeededBytes"] = "how many bytes more the next step needs",
        ["StatePart.CountBytes"] = "how many bytes a head has",
        ["RelayDevices.Check"] = "how many bytes are needed",
        ["ChannelWatch.CheckDevicePacket"] = "how many bytes are needed",
        ["IChannelVisitor.CheckDevicePacket"] = "how many bytes are needed",
    };

    // What has a reader of bytes and is no parser.
    private static readonly Dictionary<string, string> OtherReaders = new()
    {
        ["WalkContext.Pass"] = "steps over bytes that a body's parser has used",
    };

    [Fact]
    public void Bytes_are_parsed_in_the_stated_shapes_only()
        => Assert.Equal("", string.Join('\n', Methods().Select(method => (Name: Describe(method), Wrong: FindFault(method)))
            .Where(found => found.Wrong is not null && !OtherNumbers.ContainsKey(found.Name) && !OtherReaders.ContainsKey(found.Name))
            .Select(found => $"{found.Name}: {found.Wrong}")));

    [Fact]
    public void The_search_finds_the_parsers_that_there_are()
    {
        var methods = Methods().ToList();
        int values = methods.Count(method => method.Name.StartsWith("TryRead", StringComparison.Ordinal) && TakesReader(method));
        string[] walks = [.. methods.Where(IsWalk).Select(method => method.DeclaringType!.Name).Order(StringComparer.Ordinal)];
        Assert.True(values >= 25, $"{values} values");
        Assert.Equal([], new[] { "CprStateWalker", "IByteConsumer", "JsonObjectWalker", "MultifdChannelWalker", "ReturnPathWalker", "StreamWalker" }.Except(walks));
        Assert.Contains(methods, method => Describe(method) == "StateHeader.TryRead");
        Assert.Contains(methods, method => Describe(method) == "ConfigState.Parse");
    }

    [Fact]
    public void An_exemption_that_nothing_needs_is_removed()
        => Assert.Equal([], OtherNumbers.Keys.Concat(OtherReaders.Keys).Except(Methods().Where(method => FindFault(method) is not null).Select(Describe)));

    [Theory]
    [InlineData(nameof(Dialects.Parse))]
    [InlineData(nameof(Dialects.Decode))]
    [InlineData(nameof(Dialects.Take))]
    [InlineData(nameof(Dialects.TryParse))]
    [InlineData(nameof(Dialects.Feed))]
    [InlineData(nameof(Dialects.Consume))]
    [InlineData(nameof(Dialects.Read))]
    [InlineData(nameof(Dialects.Skip))]
    public void Another_shape_is_found(string method)
        => Assert.NotNull(FindFault(typeof(Dialects).GetMethod(method, Declared)!));

    private static string? FindFault(MethodInfo method)
    {
        var types = method.GetParameters().Select(parameter => parameter.ParameterType).ToList();
        if (types.Exists(type => type == typeof(ReadOnlySpan<byte>).MakeByRefType() || type == typeof(ReadOnlySequence<byte>)
            || type == typeof(ReadOnlySequence<byte>).MakeByRefType() || type == typeof(SequenceReader<byte>).MakeByRefType()))
        {
            return "moves through bytes that are not a WireReader";
        }

        if (TakesReader(method))
        {
            return method.ReturnType != typeof(bool) ? "a parser of a value says whether there were enough bytes"
                : method.Name.StartsWith("TryRead", StringComparison.Ordinal) || IsBody(method) ? null
                : "a parser of a value is TryRead(ref WireReader, out T)";
        }

        if (!types.Exists(IsBytes))
        {
            return null;
        }

        bool hasOut = method.GetParameters().Any(parameter => parameter.IsOut);
        return method.Name == "Feed" ? (IsWalk(method) ? null : "a walk is int Feed(ReadOnlySpan<byte>, bool last)")
            : hasOut ? "bytes and an out parameter: a value is TryRead(ref WireReader, out T)"
            : method.ReturnType == typeof(int) || method.ReturnType == typeof(long) || method.ReturnType == typeof(OperationStatus)
                ? "a number for bytes: a walk is int Feed(ReadOnlySpan<byte>, bool last)"
            : method.IsStatic && IsOurs(method.ReturnType) && method.Name != "op_Implicit" && !method.Name.StartsWith("Parse", StringComparison.Ordinal)
                ? "what makes something of a whole is called Parse"
            : null;
    }

    private static bool IsWalk(MethodInfo method) => method.Name == "Feed" && method.ReturnType == typeof(int)
        && method.GetParameters().Select(parameter => parameter.ParameterType).SequenceEqual([typeof(ReadOnlySpan<byte>), typeof(bool)]);

    // A body is read by the same contract, told whether its bytes are the last ones.
    private static bool IsBody(MethodInfo method) => method.Name == "Read" && (method.DeclaringType!.IsAssignableTo(typeof(ISectionBody))
        || method.DeclaringType.Name == "SectionReader");

    private static bool TakesReader(MethodInfo method)
        => method.GetParameters().Any(parameter => parameter.ParameterType == typeof(WireReader).MakeByRefType());

    private static bool IsBytes(Type type) => type == typeof(ReadOnlySpan<byte>) || type == typeof(ReadOnlyMemory<byte>);

    // A result of the parser's own, that may be null; not a stream, a handle or an exception.
    private static bool IsOurs(Type type)
        => (Nullable.GetUnderlyingType(type) ?? type) is { } own && own.Assembly == typeof(WireReader).Assembly && !own.IsEnum
            && own != typeof(WireReader) && !own.IsAssignableTo(typeof(Exception));

    private static IEnumerable<MethodInfo> Methods() => typeof(WireReader).Assembly.GetTypes()
        .Where(type => type.Namespace?.StartsWith("MigrationOps.Engine.", StringComparison.Ordinal) == true
            && type.Namespace != "MigrationOps.Engine.Native" && type != typeof(WireReader) && !type.IsAssignableTo(typeof(Stream))
            && !type.IsAssignableTo(typeof(Delegate)) && type.GetCustomAttribute<CompilerGeneratedAttribute>() is null)
        .SelectMany(type => type.GetMethods(Declared))
        .Where(method => !method.IsPrivate && method.GetCustomAttribute<CompilerGeneratedAttribute>() is null && !method.Name.Contains('<'));

    private static string Describe(MethodInfo method) => $"{method.DeclaringType!.Name}.{method.Name}";

    /// <summary>Shapes that there were, and might come again.</summary>
    private static class Dialects
    {
        internal static int Parse(ReadOnlySpan<byte> data, out string? value) => (value = null) is null ? data.Length : 0;

        internal static int Decode(ref ReadOnlySpan<byte> data) => data.Length;

        internal static int Take(ReadOnlySpan<byte> data) => data.Length;

        internal static bool TryParse(ReadOnlySpan<byte> data, out int value) => (value = data.Length) > 0;

        internal static void Feed(ReadOnlySpan<byte> data) => Take(data);

        internal static bool Consume(ref WireReader reader) => reader.Remaining > 0;

        internal static ConfigState Read(ReadOnlySpan<byte> data) => ConfigState.Parse(data, default);

        internal static void Skip(ReadOnlySequence<byte> data) => Take(data.FirstSpan);
    }
}
