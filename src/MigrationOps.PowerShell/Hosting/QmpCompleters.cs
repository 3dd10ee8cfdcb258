using System.Collections;
using System.Management.Automation;
using System.Management.Automation.Language;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// Completes names of commands from the schema of the QEMU whose monitor is on the command line; else from any that is
/// connected in this runspace.
/// </summary>
public sealed class QmpCommandCompleter : IArgumentCompleter
{
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
        => QmpSchemas.Find(fakeBoundParameters) is not { } schema ? []
            : schema.Commands.Where(name => name.StartsWith(wordToComplete.Trim('\'', '"'), StringComparison.OrdinalIgnoreCase))
                .Select(name => new CompletionResult(name, name, CompletionResultType.ParameterValue, ToolTip(schema, name)));

    private static string ToolTip(QmpSchema schema, string command)
        => command + " " + string.Join(' ', schema.ArgumentsOf(command).Select(argument => argument.IsOptional ? $"[{argument.Name}: {argument.TypeName}]" : $"{argument.Name}: {argument.TypeName}"));
}

/// <summary>Completes the arguments of a command as a hashtable: first all that are needed, then each that there is.</summary>
public sealed class QmpArgumentCompleter : IArgumentCompleter
{
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        ArgumentNullException.ThrowIfNull(fakeBoundParameters);
        if (QmpSchemas.Find(fakeBoundParameters) is not { } schema || fakeBoundParameters["Command"] is not string command)
        {
            yield break;
        }

        var arguments = schema.ArgumentsOf(command);
        var needed = arguments.Where(argument => !argument.IsOptional).ToArray();
        if (needed.Length > 1)
        {
            yield return Result(needed, string.Join(' ', needed.Select(argument => argument.Name)));
        }

        foreach (var argument in arguments)
        {
            yield return Result([argument], argument.Name);
        }
    }

    private static CompletionResult Result(IReadOnlyList<QmpArgument> arguments, string label)
        => new("@{ " + string.Join("; ", arguments.Select(argument => $"'{argument.Name}' = {Placeholder(argument)}")) + " }", label, CompletionResultType.ParameterValue,
            string.Join(", ", arguments.Select(argument => $"{argument.Name}: {argument.TypeName}{(argument.IsOptional ? " (optional)" : "")}")));

    private static string Placeholder(QmpArgument argument) => argument.TypeName switch
    {
        "bool" => "$true",
        "int" or "number" or "int8" or "int16" or "int32" or "int64" or "uint8" or "uint16" or "uint32" or "uint64" or "size" => "0",
        var type when type.EndsWith("[]", StringComparison.Ordinal) => "@()",
        "object" => "@{}",
        var type when type.Contains('|', StringComparison.Ordinal) => $"'{type.Split('|')[0]}'",
        _ => "''",
    };
}

/// <summary>The schema that a completion goes by.</summary>
internal static class QmpSchemas
{
    // A completion must not make the user wait for a monitor that is busy.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    internal static QmpSchema? Find(IDictionary fakeBoundParameters)
    {
        var monitor = ((fakeBoundParameters["Monitor"] as PSObject)?.BaseObject ?? fakeBoundParameters["Monitor"]) as LiveMonitor
            ?? RunspaceSession.Current.All<LiveMonitor>().LastOrDefault();
        if (monitor is null)
        {
            return null;
        }

        using var limit = new CancellationTokenSource(Patience);
        try
        {
            return monitor.Engine.GetSchemaAsync(limit.Token).GetAwaiter().GetResult();
        }
        catch (Exception e) when (e is MigrationOpsException or OperationCanceledException)
        {
            // A completion has no way to report a failure; the command itself will.
            return null;
        }
    }
}
