using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>Reads what a QEMU says of itself. It sends nothing but queries.</summary>
internal static class FactReader
{
    /// <summary>Commands on their way at once: as many as the client sends without waiting.</summary>
    internal const int AtOnce = 7;

    // Without these there is no verdict at all; everything else is asked if the QEMU has it.
    private static readonly string[] Essential = ["query-status", "query-migrate"];

    private static readonly string[] Queries =
    [
        .. Essential, "query-uuid", "query-name", "x-query-ramblock", "query-pci", "query-migrate-capabilities", "query-migrate-parameters", "query-kvm",
        "query-accelerators", "query-cpus-fast", "query-hotpluggable-cpus", "query-memdev", "query-memory-size-summary", "query-memory-devices", "query-balloon",
        "query-named-block-nodes", "query-block", "query-jobs", "query-block-jobs", "query-dump", "query-sev", "query-tpm", "query-chardev", "query-rx-filter",
        "x-query-virtio", "query-target", "query-machines", "query-iothreads",
    ];

    /// <summary>Asks everything that the checks need.</summary>
    /// <param name="monitor">The monitor. With a lease the object model is left out: its walk takes hundreds of commands.</param>
    /// <param name="cancellationToken">Ends it.</param>
    internal static async Task<QemuFacts> ReadAsync(QmpMonitor monitor, CancellationToken cancellationToken)
    {
        var schema = await monitor.GetSchemaAsync(cancellationToken).ConfigureAwait(false);
        var answers = new ConcurrentDictionary<string, QmpAnswer>(StringComparer.Ordinal);
        await ForEachAsync(Queries.Where(query => Essential.Contains(query) || schema.HasCommand(query)), async query =>
            answers[query] = await AskAsync(monitor, new QmpCommand(query, query == "query-named-block-nodes" ? new JsonObject { ["flat"] = true } : null), cancellationToken).ConfigureAwait(false),
            monitor.Options.Lease, cancellationToken).ConfigureAwait(false);
        string? name = monitor.VMName ?? answers.GetValueOrDefault("query-name").Value?.Text("name");
        var process = ProcessOf(monitor, answers.GetValueOrDefault("query-uuid").Value?.Text("UUID"));
        return new QemuFacts
        {
            Virtio = monitor.Options.Lease || IsDeadly(schema) ? null : await ReadVirtioAsync(monitor, answers.GetValueOrDefault("x-query-virtio").Value, cancellationToken).ConfigureAwait(false),
            Name = monitor.Name,
            VMName = name,
            Version = monitor.Version,
            Schema = schema,
            Process = process,
            Manager = ManagerFacts.Read(monitor.Manager != VMManager.None ? monitor.Manager : MonitorManager.OfArguments(process?.Arguments ?? []), name, process?.Arguments ?? []),
            Answers = answers,
            Objects = monitor.Options.Lease ? null : await new QomWalk(monitor, schema).ReadAsync(cancellationToken).ConfigureAwait(false),
        };
    }

    // Behind libvirt's proxy the peer is the proxy; the QEMU of that UUID is the one.
    private static ProcessFacts? ProcessOf(QmpMonitor monitor, string? uuid)
    {
        int id = monitor.Manager != VMManager.Libvirt ? monitor.Peer?.Pid ?? 0 : VMFinder.FindProcess(uuid);
        return id <= 0 ? null : new ProcessFacts { Id = id, StartTime = ProcFiles.StartTime(id), Arguments = ProcFiles.CommandLine(id), ResidentBytes = ProcFiles.ResidentBytes(id) };
    }

    /// <summary>The same facts with the flag of each feature of the CPU.</summary>
    internal static async Task<QemuFacts> WithCpuFlagsAsync(QmpMonitor monitor, QemuFacts facts, CancellationToken cancellationToken)
    {
        if (CpuChecks.FirstOf(facts) is not { } cpu)
        {
            return facts;
        }

        var full = await new QomWalk(monitor, facts.Schema).ReadFlagsAsync(cpu, cancellationToken).ConfigureAwait(false);
        return facts with { Objects = [.. facts.Objects!.Select(found => found == cpu ? full : found)] };
    }

    private static async Task<IReadOnlyDictionary<string, JsonElement>> ReadVirtioAsync(QmpMonitor monitor, JsonElement? devices, CancellationToken cancellationToken)
    {
        var status = new ConcurrentDictionary<string, JsonElement>(StringComparer.Ordinal);
        await ForEachAsync(devices?.Items().Select(device => device.Text("path")).OfType<string>() ?? [], async path =>
        {
            if ((await AskAsync(monitor, new QmpCommand("x-query-virtio-status", new JsonObject { ["path"] = path }), cancellationToken).ConfigureAwait(false)).Value is { } answer)
            {
                status[path] = answer;
            }
        }, false, cancellationToken).ConfigureAwait(false);
        return status;
    }

    // QEMU 11.1.3 ends with an assertion when it is asked for the status of any virtio device (measured); 7.2 to 10.0 answer. Which one
    // between them was the first is not known, so that none is asked that came after 10.0. No question is worth a guest.
    private static bool IsDeadly(QmpSchema schema) => schema.HasCommand("qom-list-get");

    /// <summary>Asks; what QEMU refuses to answer is an answer too.</summary>
    internal static async Task<QmpAnswer> AskAsync(QmpMonitor monitor, QmpCommand command, CancellationToken cancellationToken)
    {
        try
        {
            return new QmpAnswer(await monitor.ExecuteAsync(command, null, cancellationToken).ConfigureAwait(false), null);
        }
        catch (QmpException e) when (e.Reason is QmpError.CommandFailed or QmpError.CommandNotFound)
        {
            return new QmpAnswer(null, e.QemuDescription ?? e.Message);
        }
    }

    internal static Task ForEachAsync<T>(IEnumerable<T> items, Func<T, Task> ask, bool oneByOne, CancellationToken cancellationToken)
        => Parallel.ForEachAsync(items, new ParallelOptions { MaxDegreeOfParallelism = oneByOne ? 1 : AtOnce, CancellationToken = cancellationToken },
            async (item, _) => await ask(item).ConfigureAwait(false));
}
