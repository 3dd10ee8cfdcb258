using System.Diagnostics;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>
/// Lets the destination's own QEMU load a stream and reports what it says.
/// <code>
/// command line ─→ RehearsalCommandLine ─→ QEMU (-S, own network namespace, sandbox, null disks)
/// stream       ─→ RehearsalFeed ─────────→ its socket ─→ completed, and its monitor still answers: loads
///                                                     ─→ failed, or it ends: its output, explained
/// </code>
/// </summary>
internal static class StreamRehearsal
{
    // The sandbox that QEMU documents as the strictest; tried first, for not every build has it.
    private static readonly string[] Sandbox = ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"];

    /// <summary>
    /// The arguments of a command line: as they are, or taken apart if there is one string only, as a shell script or
    /// <c>virsh domxml-to-native</c> has it. The environment and the program before the first option are left out.
    /// </summary>
    public static IReadOnlyList<string> SplitArguments(IReadOnlyList<string> arguments)
    {
        ArgumentNullException.ThrowIfNull(arguments);
        return arguments is [var line] && line.Contains(' ', StringComparison.Ordinal)
            ? [.. QemuCommandLine.SplitWords(line).SkipWhile(word => !word.StartsWith('-'))]
            : arguments;
    }

    /// <summary>Runs a rehearsal.</summary>
    /// <param name="options">What to rehearse.</param>
    /// <param name="scope">Ends it, and is told the bytes that QEMU took; QEMU is killed when it is cancelled.</param>
    /// <param name="logger">Told the conversation with QEMU.</param>
    /// <exception cref="RehearsalException">There is no verdict: QEMU did not start, or did not answer.</exception>
    /// <exception cref="StreamException">The stream cannot be read.</exception>
    public static async Task<MigrationRehearsal> RunAsync(RehearsalOptions options, TransferScope scope, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(scope);
        var cancellationToken = scope.CancellationToken;
        var clock = Stopwatch.StartNew();
        using var bounds = scope.Nest();
        using var source = options.Input.Open(bounds);
        using var contents = ReadContents(options, source, bounds);
        var line = RehearsalCommandLine.Create(options.ArgumentList, options.WorkingDirectory, contents.HasCapability(StreamFormat.IgnoreSharedCapability));
        string folder = Directory.CreateTempSubdirectory("migrationops-rehearsal-").FullName;
        try
        {
            var notes = line.Notes.ToList();
            string[] arguments = [.. line.Arguments.Select(a => a.Replace(RehearsalCommandLine.SpiceSocket, Path.Combine(folder, "spice.sock"), StringComparison.Ordinal))];
            await using var qemu = await StartAsync(options, arguments, notes, logger, cancellationToken).ConfigureAwait(false);
            var run = new RehearsalRun(options, contents, qemu, Path.Combine(folder, "incoming.sock"), scope);
            bool loaded = await run.LoadAsync().ConfigureAwait(false);
            var result = new MigrationRehearsal
            {
                Path = options.Input.Path,
                Program = options.Program,
                Version = qemu.Monitor.Version.ToString(),
                Passed = loaded,
                Notes = [.. notes, .. run.Notes],
                MemorySkipped = options.SkipMemory,
                Bytes = run.BytesGiven,
                ArgumentList = arguments,
                QemuOutput = run.Words,
                Duration = clock.Elapsed,
            };
            return Explain(result, contents);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static StreamContents ReadContents(RehearsalOptions options, StreamSource source, TransferScope scope)
    {
        string path = options.Input.Path;
        var contents = MigrationStreamFile.Read(
            source, new StreamReadOptions { MaxMemory = options.Input.MaxMemory, KeepBodies = options.SkipMemory, KeepAllBodies = options.SkipMemory }, scope);
        try
        {
            if (contents.Commands.Exists(c => c.Id == StreamCommandId.PostcopyRun))
            {
                throw new RehearsalException(RehearsalError.NotSupported,
                    $"'{path}' switched to postcopy: a waiting QEMU would start the guest in the middle of it.");
            }

            if (!options.SkipMemory && (contents.HasCapability(StreamFormat.MappedRamCapability) || contents.Channels.Count > 0))
            {
                throw new RehearsalException(RehearsalError.NotSupported,
                    $"'{path}' has its memory beside the stream ({(contents.Channels.Count > 0 ? "multifd channels" : "mapped-ram")}).",
                    action: "Rehearse it without memory.");
            }

            if (options.SkipMemory)
            {
                MigrationStreams.ThrowIfUnreadable(contents);
                if (contents.SectionsOmitted > 0 && contents.Sections.Exists(s => s.Header is { Kind: SectionKind.Start, IdStr: not "ram" }))
                {
                    throw new RehearsalException(RehearsalError.NotSupported,
                        $"'{path}' has {contents.SectionsOmitted:N0} sections more than are kept, and not all of them are memory.", action: "Rehearse it with its memory.");
                }
            }

            return contents;
        }
        catch
        {
            contents.Dispose();
            throw;
        }
    }

    private static async Task<QemuProcess> StartAsync(
        RehearsalOptions options, string[] arguments, List<string> notes, ILogger? logger, CancellationToken cancellationToken)
    {
        string[] waiting = [.. arguments, "-incoming", "defer"];
        var (program, before) = NetworkNamespace.Wrap(options.Program, arguments, notes);
        try
        {
            return await QemuProcess.StartAsync(Process([.. before, .. Sandbox, .. waiting]), logger, cancellationToken).ConfigureAwait(false);
        }
        catch (QmpException e) when (e.Reason == QmpError.StartFailed && e.Message.Contains("sandbox", StringComparison.Ordinal))
        {
            notes.Add("This QEMU has no sandbox (seccomp); it ran without.");
        }
        catch (QmpException e) when (e.Reason == QmpError.StartFailed)
        {
            throw Failed(e);
        }

        try
        {
            return await QemuProcess.StartAsync(Process([.. before, .. waiting]), logger, cancellationToken).ConfigureAwait(false);
        }
        catch (QmpException e) when (e.Reason == QmpError.StartFailed)
        {
            throw Failed(e);
        }

        QemuProcessOptions Process(string[] all) => new()
        {
            Program = program,
            Arguments = all,
            // A process that has just been started may be slow to greet on a busy host.
            Timeouts = QmpTimeouts.Of(options.Timeout) with { Greeting = options.Timeout },
        };

        static RehearsalException Failed(QmpException e)
            => new(RehearsalError.StartFailed, $"The destination's QEMU does not start: {e.Message}", e) { Target = e.Target };
    }

    private static MigrationRehearsal Explain(MigrationRehearsal result, StreamContents contents)
    {
        var findings = QemuLogExplainer.Explain(result.QemuOutput);
        if (result.Passed && !findings.Any(f => f.BreaksDevice))
        {
            return result;
        }

        // QEMU calls a load completed whose devices it took out of service.
        result = result with { Passed = false };
        var cause = QemuLogExplainer.FindCause(findings);
        if (cause is null)
        {
            return result with
            {
                Kind = "Unknown",
                Meaning = result.QemuOutput.Length > 0 ? result.QemuOutput[^1] : "QEMU ended without a message.",
                RecommendedAction = "Look at QEMU's output.",
            };
        }

        var section = cause.Device.Length == 0 ? null : contents.Sections.Select(s => s.Header)
            .FirstOrDefault(h => h.IdStr == cause.Device && (cause.InstanceId is null || h.InstanceId == cause.InstanceId));
        var field = findings.FirstOrDefault(f => f.Kind == "FieldNotLoaded");
        return result with
        {
            Kind = cause.Kind,
            Section = cause.Device,
            InstanceId = cause.InstanceId,
            Field = cause.Field.Length > 0 ? cause.Field : field?.Field ?? "",
            Offset = section?.Offset,
            Meaning = cause.Meaning,
            RecommendedAction = cause.RecommendedAction,
        };
    }
}
