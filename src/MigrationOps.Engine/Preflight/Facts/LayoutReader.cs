using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.Preflight;

/// <summary>
/// Asks the programs of both QEMUs what they can load: each is started once for it (-M none -dump-vmstate) and ends at once. What a build
/// printed is kept by its build id, in memory and below the user's cache folder.
/// </summary>
internal static class LayoutReader
{
    private const int MostKept = 16;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static readonly ConcurrentDictionary<string, VmstateDump> Kept = new(StringComparer.Ordinal);

    /// <summary>The layouts of both; null if one of the programs is not on this host or does not tell.</summary>
    internal static async Task<LayoutFacts?> ReadAsync(ProcessFacts? source, ProcessFacts? target, CancellationToken cancellationToken)
    {
        if (source is null || target is null || ProgramOf(source) is not { } here || ProgramOf(target) is not { } there)
        {
            return null;
        }

        bool isSame = here.Key == there.Key;
        var mine = await DumpAsync(here, cancellationToken).ConfigureAwait(false);
        var theirs = isSame ? mine : await DumpAsync(there, cancellationToken).ConfigureAwait(false);
        return mine is null || theirs is null ? null : new LayoutFacts
        {
            Source = NamesOf(mine),
            Target = NamesOf(theirs),
            Differences = isSame ? [] : new DumpPairComparer(mine, theirs, new MemoryBudget()).Compare(),
            IsSameBuild = isSame,
        };
    }

    private static Dictionary<string, string> NamesOf(VmstateDump dump) => dump.Types.ToDictionary(pair => pair.Key, pair => pair.Value.Name, StringComparer.Ordinal);

    /// <summary>How the program of a process is started again: it, and what loads it.</summary>
    private sealed record QemuProgram(IReadOnlyList<string> Command, string? Modules, string Key);

    private static QemuProgram? ProgramOf(ProcessFacts process)
    {
        int at = process.ProgramIndex;
        if (at < 0)
        {
            return null;
        }

        // The running program itself, though its file may have been replaced since; one that a loader started is named behind it.
        string running = string.Create(CultureInfo.InvariantCulture, $"/proc/{process.Id}/exe");
        bool isLoaded = ProcFiles.Executable(process.Id) is { } executable && Path.GetFileName(executable).StartsWith("ld-", StringComparison.Ordinal);
        string program = isLoaded ? process.Arguments[at] : running;
        string[] command = isLoaded ? [ProcFiles.Executable(process.Id)!, .. process.Arguments.Take(at + 1).Skip(1)] : [running];
        const string Variable = "QEMU_MODULE_DIR=";
        string? modules = ProcFiles.Read(process.Id, "environ")?.Split('\0').FirstOrDefault(entry => entry.StartsWith(Variable, StringComparison.Ordinal));
        string? key = BuildId.TryRead(program) ?? (PathStatus.TryOf(program) is { } status ? string.Create(CultureInfo.InvariantCulture, $"{status.Device:x}-{status.Inode:x}-{status.Changed:x}") : null);
        return key is null ? null : new QemuProgram(command, modules, modules is null ? key : $"{key}-{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(modules)).AsSpan(0, 4))}");
    }

    private static async Task<VmstateDump?> DumpAsync(QemuProgram program, CancellationToken cancellationToken)
    {
        if (Kept.TryGetValue(program.Key, out var kept))
        {
            return kept;
        }

        string path = Path.Combine(Folder(), program.Key + ".json");
        try
        {
            if (!File.Exists(path))
            {
                await WriteAsync(program, path, cancellationToken).ConfigureAwait(false);
            }

            var dump = VmstateDump.Read(path, new MemoryBudget());
            if (Kept.Count >= MostKept)
            {
                Kept.Clear();
            }

            return Kept.GetOrAdd(program.Key, dump);
        }
        catch (Exception e) when (e is MigrationOpsException or IOException or UnauthorizedAccessException)
        {
            // It is then not known; the check that needs it says so.
            return null;
        }
    }

    private static async Task WriteAsync(QemuProgram program, string path, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(Folder());
        string part = string.Create(CultureInfo.InvariantCulture, $"{path}.{Environment.ProcessId}.{RandomNumberGenerator.GetHexString(8, lowercase: true)}.part");
        string[] arguments = [.. program.Command, "-M", "none", "-nodefaults", "-display", "none", "-dump-vmstate", part];
        try
        {
            using var child = program.Modules is null ? ChildProcess.Start(arguments[0], arguments[1..]) : ChildProcess.Start("env", [program.Modules, .. arguments]);
            int code = await child.Exited.WaitAsync(Patience, cancellationToken).ConfigureAwait(false);
            if (code != 0)
            {
                throw new QmpException(QmpError.StartFailed, $"{arguments[0]} -dump-vmstate ended with exit code {code}: {child.Output.Trim()}");
            }

            File.Move(part, path, overwrite: true);
        }
        catch (TimeoutException e)
        {
            throw new QmpException(QmpError.StartFailed, $"{arguments[0]} -dump-vmstate did not end within {Patience.TotalSeconds:0} s.", e);
        }
        finally
        {
            File.Delete(part);
        }
    }

    private static string Folder() => Path.Combine(Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } cache ? cache
        : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache"), "migrationops", "vmstate");
}
