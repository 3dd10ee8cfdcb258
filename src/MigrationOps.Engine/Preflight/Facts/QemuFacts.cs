using System.Text.Json;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>What a monitor returned: a value, or QEMU's words why not.</summary>
internal readonly record struct QmpAnswer(JsonElement? Value, string? Error);

/// <summary>A QEMU's process, if it runs on this host.</summary>
internal sealed record ProcessFacts
{
    internal required int Id { get; init; }

    /// <summary>When it started, in clock ticks since the boot.</summary>
    internal required long? StartTime { get; init; }

    /// <summary>
    /// Memory that it has ever touched, swapped memory too: what the guest never used is not in it. Null if it cannot be seen.
    /// </summary>
    internal long? ResidentBytes { get; init; }

    /// <summary>The arguments with which it was started, the program first.</summary>
    internal required IReadOnlyList<string> Arguments { get; init; }

    /// <summary>Where in the arguments QEMU's own name stands: first, or behind the loader of its libraries; -1 if it is no QEMU.</summary>
    internal int ProgramIndex => Arguments.Take(MostBefore).ToList().FindIndex(argument => Path.GetFileName(argument) is var name
        && (name.StartsWith("qemu-system-", StringComparison.Ordinal) || name is "qemu-kvm" or "kvm"));

    private const int MostBefore = 8;
}

/// <summary>An object of QEMU's object model with its properties.</summary>
/// <param name="Path">Its path.</param>
/// <param name="Type">Its type.</param>
/// <param name="Properties">Its properties by name, without children; those that QEMU does not give are missing.</param>
internal sealed record QomObject(string Path, string Type, IReadOnlyDictionary<string, JsonElement> Properties)
{
    /// <summary>True for a device, as opposed to a bus, a back-end or a folder of objects.</summary>
    internal bool IsDevice { get; init; }

    internal JsonElement? this[string property] => Properties.TryGetValue(property, out var value) ? value : null;
}

/// <summary>What one QEMU said of itself.</summary>
internal sealed record QemuFacts
{
    /// <summary>The address of its monitor.</summary>
    internal required string Name { get; init; }

    /// <summary>The name of the VM.</summary>
    internal required string? VMName { get; init; }

    internal required QmpVersion Version { get; init; }

    /// <summary>What it offers.</summary>
    internal required QmpSchema Schema { get; init; }

    /// <summary>Its process; null if it cannot be seen from here.</summary>
    internal ProcessFacts? Process { get; init; }

    /// <summary>What manages it; null if it cannot be seen.</summary>
    internal ManagerFacts? Manager { get; init; }

    /// <summary>Its answers by command, for commands without arguments.</summary>
    internal required IReadOnlyDictionary<string, QmpAnswer> Answers { get; init; }

    /// <summary>The objects below /machine and /objects; null if they were not asked for, as with a lease.</summary>
    internal IReadOnlyList<QomObject>? Objects { get; init; }

    /// <summary>x-query-virtio-status of each virtio device by its path; null if it was not asked for, because that is not safe.</summary>
    internal IReadOnlyDictionary<string, JsonElement>? Virtio { get; init; }

    /// <summary>What a command returned; null if it was not asked, refused or is not there.</summary>
    internal JsonElement? this[string command] => Answers.TryGetValue(command, out var answer) ? answer.Value : null;

    /// <summary>The object at a path.</summary>
    internal QomObject? Object(string path) => Objects?.FirstOrDefault(found => found.Path == path);
}
