using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qmp;

/// <summary>What a scripted monitor is and says.</summary>
internal sealed record QmpServerOptions
{
    internal static readonly QmpVersion UsualVersion = new(10, 0, 2, "scripted");

    /// <summary>Where it listens.</summary>
    internal required Endpoint Endpoint { get; init; }

    /// <summary>The version in its greeting.</summary>
    internal QmpVersion Version { get; init; } = UsualVersion;

    /// <summary>The capabilities in its greeting.</summary>
    internal string[] Capabilities { get; init; } = ["oob"];

    /// <summary>Bytes in place of the greeting; empty for silence, null for the greeting.</summary>
    internal byte[]? Greeting { get; init; }

    /// <summary>How it takes qmp_capabilities; null for QEMU's own way.</summary>
    internal QmpServerAnswer? Negotiation { get; init; }

    /// <summary>
    /// Answers commands, one after the other as QEMU does; those out of band at once, beside them. Null is CommandNotFound.
    /// </summary>
    internal Func<QmpServerCommand, ValueTask<QmpServerAnswer?>> Answer { get; init; } = static _ => ValueTask.FromResult<QmpServerAnswer?>(null);

    /// <summary>The same as a table of commands with fixed answers.</summary>
    internal static Func<QmpServerCommand, ValueTask<QmpServerAnswer?>> Table(IReadOnlyDictionary<string, QmpServerAnswer> answers)
        => command => ValueTask.FromResult(answers.GetValueOrDefault(command.Name));
}
