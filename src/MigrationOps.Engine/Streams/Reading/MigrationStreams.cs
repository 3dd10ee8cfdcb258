using System.IO.Enumeration;
using System.Text;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>Which stream to read, and within what bounds.</summary>
internal sealed record MigrationStreamInput
{
    /// <summary>The file, named pipe or folder of a multifd archive.</summary>
    public required string Path { get; init; }

    /// <summary>Bytes before the stream in the file.</summary>
    public long Offset { get; init; }

    /// <summary>The name or id of a snapshot, if the file is a qcow2 image; null for the only one with VM state.</summary>
    public string? Snapshot { get; init; }

    /// <summary>A stream that can only be read forward, instead of the file; it is disposed after reading.</summary>
    public Stream? Forward { get; init; }

    /// <summary>Memory beyond what is exported.</summary>
    public long MaxMemory { get; init; } = MemoryBudget.Default;

    internal StreamSource Open(TransferScope scope)
        => Forward is null ? StreamSource.Open(Path, Offset, Snapshot, scope) : StreamSource.FromForward(Path, Forward);
}

/// <summary>
/// Reads migration streams: what is in them, whether they are whole, what their devices' state is. Each takes a scope: how long a pipe
/// may be silent, cancellation, and who is told the bytes that were read; null for a scope with the usual timeout.
/// </summary>
internal static class MigrationStreams
{
    /// <summary>
    /// What is in the stream. A damaged or cut one gives what could be read, with the failure in the result and in
    /// <see cref="TransferScope.Failure"/>.
    /// </summary>
    /// <param name="input">The stream.</param>
    /// <param name="scope">The bounds of the reading.</param>
    /// <exception cref="StreamException">It is not a migration stream.</exception>
    public static MigrationStreamInfo GetInfo(MigrationStreamInput input, TransferScope? scope = null)
        => Read(input, keepBodies: false, scope, contents =>
        {
            ThrowIfForeign(contents);
            KeepFailure(contents, scope);
            return StreamInfoMapper.Map(contents, input.Path);
        });

    /// <summary>The devices whose idstr or layout matches a wildcard, with their fields.</summary>
    /// <param name="input">The stream.</param>
    /// <param name="pattern">A name with * and ?; null for all.</param>
    /// <param name="scope">The bounds of the reading.</param>
    /// <exception cref="StreamException">The stream cannot be read or decoded, or has no such device.</exception>
    public static IReadOnlyList<MigrationStreamDevice> GetDevices(MigrationStreamInput input, string? pattern, TransferScope? scope = null)
        => GetDevices(input, pattern is null ? [] : new[] { pattern }, scope);

    /// <summary>
    /// The devices that match any of the wildcards, with their fields. What ended the reading too early is in
    /// <see cref="TransferScope.Failure"/>.
    /// </summary>
    public static IReadOnlyList<MigrationStreamDevice> GetDevices(MigrationStreamInput input, string[] patterns, TransferScope? scope = null)
    {
        ArgumentNullException.ThrowIfNull(patterns);
        return Read(input, keepBodies: true, scope, contents =>
        {
            foreach (string pattern in patterns)
            {
                if (!contents.FullSections.Any(s => IsNamed(contents, s, pattern)))
                {
                    throw contents.Failure is null ? NotFound(contents, $"device '{pattern}'") : Failure(contents);
                }
            }

            KeepFailure(contents, scope);
            var sections = contents.FullSections.Where(s => patterns.Length == 0 || patterns.Any(p => IsNamed(contents, s, p)));
            return sections.Select(s => StreamInfoMapper.MapDevice(contents, input.Path, s, DeviceDecoder.Decode(contents, s))).ToArray();
        });
    }

    /// <summary>Writes what QEMU's analyze-migration.py prints for the stream.</summary>
    /// <exception cref="StreamException">The stream cannot be read to its end, or does not describe its devices.</exception>
    public static void WriteAnalyzeJson(MigrationStreamInput input, TextWriter output, TransferScope? scope = null)
        => Read(input, keepBodies: true, scope, contents =>
        {
            ThrowIfUnreadable(contents);
            new AnalyzeJson(contents, output).Write();
            return true;
        });

    /// <summary>The description in the stream, as QEMU wrote it: JSON.</summary>
    public static string GetDescription(MigrationStreamInput input, TransferScope? scope = null)
        => Read(input, keepBodies: false, scope, contents =>
        {
            ThrowIfUnreadable(contents);
            return MigrationStreamFile.DescriptionText(contents);
        });

    /// <summary>Checks that the stream is whole.</summary>
    public static DeviceStateReport Test(MigrationStreamInput input, TransferScope? scope = null)
    {
        try
        {
            return Read(input, keepBodies: true, scope, contents => new StreamChecker(contents, WalkAgain(input, contents, scope)).Check());
        }
        catch (StreamException e)
        {
            // What can be opened and is no stream has an answer as well.
            return new DeviceStateReport(input.Path, [DeviceStateCheck.FromFailure("Structure", e)]);
        }
    }

    /// <summary>The snapshots of a qcow2 image, in the order of its table; null if the file is no such image.</summary>
    /// <param name="input">The image; only its path and offset count.</param>
    /// <exception cref="StreamException">The image's tables contradict the format.</exception>
    public static IReadOnlyList<MigrationSnapshot>? GetSnapshots(MigrationStreamInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (!File.Exists(input.Path) || FileKinds.Of(input.Path) == FileKind.Pipe)
        {
            return null;
        }

        using var image = Qcow2Image.TryOpen(input.Path, input.Offset);
        return image?.Snapshots.Select(s => new MigrationSnapshot
        {
            Path = input.Path,
            Snapshot = s.Name,
            Id = s.Id,
            Date = s.Date.LocalDateTime,
            StateSize = s.StateSize,
            DiskSize = (long)(s.DiskSize ?? image.Header.DiskSize),
            VmClock = s.VmClock,
        }).ToArray();
    }

    /// <summary>Compares two streams: what keeps the first from loading where the second came from.</summary>
    /// <param name="reference">The stream that is to be loaded.</param>
    /// <param name="difference">A stream of the VM as the destination would write it.</param>
    /// <param name="values">True to list values that differ as well.</param>
    /// <param name="scope">The bounds of the reading.</param>
    public static IReadOnlyList<MigrationStreamDifference> Compare(
        MigrationStreamInput reference, MigrationStreamInput difference, bool values, TransferScope? scope = null)
        => Read(reference, keepBodies: true, scope, contents =>
        {
            ThrowIfUnreadable(contents);
            return Read(difference, keepBodies: true, scope, other =>
            {
                ThrowIfUnreadable(other);
                return new StreamComparer(contents, other, values).Compare();
            });
        });

    /// <summary>Compares a stream with what a QEMU can load.</summary>
    /// <param name="reference">The stream that is to be loaded.</param>
    /// <param name="dumpPath">What the destination's <c>qemu -M MACHINE -dump-vmstate FILE</c> wrote.</param>
    /// <param name="scope">The bounds of the reading.</param>
    public static IReadOnlyList<MigrationStreamDifference> CompareWithDump(
        MigrationStreamInput reference, string dumpPath, TransferScope? scope = null)
        => CompareWithDump(reference, budget => VmstateDump.Read(dumpPath, budget), scope);

    /// <summary>Compares a stream with what a QEMU can load, given as the JSON itself.</summary>
    public static IReadOnlyList<MigrationStreamDifference> CompareWithDumpText(
        MigrationStreamInput reference, string json, TransferScope? scope = null)
        => CompareWithDump(reference, _ => ParseDump(json), scope);

    /// <summary>Compares what two QEMUs can load, by what their <c>-dump-vmstate</c> wrote.</summary>
    /// <param name="referencePath">The dump of the QEMU that writes streams.</param>
    /// <param name="difference">The dump of the QEMU that loads them: its path.</param>
    /// <param name="maxMemory">Memory that reading and comparing may take, in bytes.</param>
    public static IReadOnlyList<MigrationStreamDifference> CompareDumps(string referencePath, string difference, long maxMemory = MemoryBudget.Default)
    {
        var budget = new MemoryBudget(maxMemory);
        return new DumpPairComparer(VmstateDump.Read(referencePath, budget), VmstateDump.Read(difference, budget), budget).Compare();
    }

    /// <summary>Compares what two QEMUs can load, where the second's dump is given as the JSON itself.</summary>
    public static IReadOnlyList<MigrationStreamDifference> CompareDumpWithText(string referencePath, string json, long maxMemory = MemoryBudget.Default)
    {
        var budget = new MemoryBudget(maxMemory);
        return new DumpPairComparer(VmstateDump.Read(referencePath, budget), ParseDump(json), budget).Compare();
    }

    private static VmstateDump ParseDump(string json) => VmstateDump.Parse(Encoding.UTF8.GetBytes(json), "the device description");

    private static IReadOnlyList<MigrationStreamDifference> CompareWithDump(
        MigrationStreamInput reference, Func<MemoryBudget, VmstateDump> dump, TransferScope? scope)
        => Read(reference, keepBodies: true, scope, contents =>
        {
            ThrowIfUnreadable(contents);
            return new DumpComparer(contents, dump(contents.Budget)).Compare();
        });

    /// <summary>True if the file is a device description of QEMU rather than a stream: it starts as JSON does.</summary>
    public static bool IsDump(string path)
    {
        if (!File.Exists(path))
        {
            return false;
        }

        using var file = File.OpenRead(path);
        return file.ReadByte() == '{';
    }

    // Reads the whole stream and gives what was made of it; nothing of the stream stays open.
    private static T Read<T>(MigrationStreamInput input, bool keepBodies, TransferScope? scope, Func<StreamContents, T> use)
    {
        ArgumentNullException.ThrowIfNull(input);
        using var own = scope is null ? new TransferScope(TransferScope.DefaultTimeout) : null;
        var bounds = scope ?? own!;
        using var source = input.Open(bounds);
        using var contents = MigrationStreamFile.Read(source, new StreamReadOptions { MaxMemory = input.MaxMemory, KeepBodies = keepBodies }, bounds);
        return use(contents);
    }

    // A second walk over what can be opened twice, with the description that the first one found; null for a pipe.
    private static Action<StreamVisitor>? WalkAgain(MigrationStreamInput input, StreamContents contents, TransferScope? scope)
        => input.Forward is not null || !StreamSource.IsSeekable(input.Path) ? null : visitor =>
        {
            using var own = scope is null ? new TransferScope(TransferScope.DefaultTimeout) : null;
            using var source = input.Open(scope ?? own!);
            var walker = new StreamWalker(visitor, contents.Description);
            if (source.File is { } file)
            {
                StreamPump.Run(file, file.Length, walker, scope ?? own!, isAgain: true);
            }
            else
            {
                StreamPump.Run(source.Forward!, walker, scope ?? own!, isAgain: true);
            }
        };

    private static void KeepFailure(StreamContents contents, TransferScope? scope)
    {
        if (contents.Failure is not null)
        {
            scope?.Fail(Failure(contents));
        }
    }

    private static void ThrowIfForeign(StreamContents contents)
    {
        if (contents.Failure is { Reason: StreamError.NotAStream } or { Reason: StreamError.UnsupportedVersion, ByteOffset: < 8 })
        {
            throw Failure(contents);
        }
    }

    private static StreamException Failure(StreamContents contents)
    {
        var failure = contents.Failure!;
        return new StreamException(failure.Reason, $"'{contents.Name}': {StreamPlaces.DescribeFailure(contents, failure)}", failure, failure.RecommendedAction)
        {
            ByteOffset = failure.ByteOffset,
            Section = failure.Section,
            Target = contents.Name,
        };
    }

    private static bool IsNamed(StreamContents contents, SectionContents section, string pattern)
        => Matches(pattern, section.Header.IdStr)
            || Matches(pattern, contents.Description?.Find(section.Header.IdStr, section.Header.InstanceId)?.VmsdName ?? "");

    internal static void ThrowIfUnreadable(StreamContents contents)
    {
        if (contents.Failure is not null)
        {
            throw Failure(contents);
        }
    }

    internal static StreamException NotFound(StreamContents contents, string what)
        => new(StreamError.NotFound, $"The stream '{contents.Name}' has no {what}.") { Target = contents.Name };

    internal static bool Matches(string pattern, string name) => FileSystemName.MatchesSimpleExpression(pattern, name, ignoreCase: true);
}
