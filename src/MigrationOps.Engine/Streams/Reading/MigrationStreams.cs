using MigrationOps.Engine.Native;
using System.IO.Enumeration;
using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>Which stream to read, and within what bounds.</summary>
public sealed record MigrationStreamInput
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

    /// <summary>Told the bytes so far, on the reading thread; must be quick.</summary>
    public Action<long>? Progress { get; init; }

    /// <summary>How long the other end of a pipe may send nothing.</summary>
    public TimeSpan Timeout { get; init; } = TransferScope.DefaultTimeout;

    internal StreamSource Open(CancellationToken cancellationToken)
        => Forward is null ? StreamSource.Open(Path, Offset, Snapshot, Timeout, cancellationToken) : StreamSource.Forward(Path, Forward);
}

/// <summary>Reads migration streams: what is in them, whether they are whole, what their devices' state is.</summary>
public static class MigrationStreams
{
    /// <summary>
    /// What is in the stream. A damaged or cut one gives what could be read, with the failure in the result.
    /// </summary>
    /// <param name="input">The stream.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="StreamException">It is no migration stream at all.</exception>
    public static MigrationStreamInfo GetInfo(MigrationStreamInput input, CancellationToken cancellationToken = default)
        => GetInfo(input, out _, cancellationToken);

    /// <summary>What is in the stream, and the failure that ended the reading, if one did.</summary>
    public static MigrationStreamInfo GetInfo(MigrationStreamInput input, out StreamException? failure, CancellationToken cancellationToken = default)
    {
        using var source = Open(input, cancellationToken);
        using var contents = Read(source, input, keepBodies: false, cancellationToken);
        ThrowIfForeign(contents);
        failure = contents.Failure is null ? null : Failure(contents);
        return StreamInfoMapper.Map(contents, input.Path);
    }

    /// <summary>The devices whose idstr or layout matches a wildcard, with their fields.</summary>
    /// <param name="input">The stream.</param>
    /// <param name="pattern">A name with * and ?; null for all.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="StreamException">The stream cannot be read or decoded, or has no such device.</exception>
    public static IReadOnlyList<MigrationStreamDevice> GetDevices(
        MigrationStreamInput input, string? pattern, CancellationToken cancellationToken = default)
        => GetDevices(input, pattern is null ? [] : [pattern], out _, cancellationToken);

    /// <summary>The devices that match any of the wildcards, with their fields, and the failure that ended the reading, if one did.</summary>
    public static IReadOnlyList<MigrationStreamDevice> GetDevices(
        MigrationStreamInput input, IReadOnlyList<string> patterns, out StreamException? failure, CancellationToken cancellationToken = default)
    {
        using var source = Open(input, cancellationToken);
        using var contents = Read(source, input, keepBodies: true, cancellationToken);
        failure = contents.Failure is null ? null : Failure(contents);
        foreach (string pattern in patterns)
        {
            if (!contents.FullSections.Any(s => IsNamed(contents, s, pattern)))
            {
                throw failure ?? NotFound(contents, $"device '{pattern}'");
            }
        }

        var sections = contents.FullSections.Where(s => patterns.Count == 0 || patterns.Any(p => IsNamed(contents, s, p)));

        return [.. sections.Select(s => StreamInfoMapper.MapDevice(contents, input.Path, s, DeviceDecoder.Decode(contents, s)))];
    }

    /// <summary>Writes what QEMU's analyze-migration.py prints for the stream.</summary>
    /// <exception cref="StreamException">The stream cannot be read to its end, or does not describe its devices.</exception>
    public static void WriteAnalyzeJson(MigrationStreamInput input, TextWriter output, CancellationToken cancellationToken = default)
    {
        using var source = Open(input, cancellationToken);
        using var contents = Read(source, input, keepBodies: true, cancellationToken);
        ThrowIfUnreadable(contents);
        new AnalyzeJson(contents, output).Write();
    }

    /// <summary>The description in the stream, as QEMU wrote it: JSON.</summary>
    public static string GetDescription(MigrationStreamInput input, CancellationToken cancellationToken = default)
    {
        using var source = Open(input, cancellationToken);
        using var contents = Read(source, input, keepBodies: false, cancellationToken);
        ThrowIfUnreadable(contents);
        return MigrationStreamFile.DescriptionText(contents);
    }

    /// <summary>Checks that the stream is whole.</summary>
    public static DeviceStateReport Test(MigrationStreamInput input, CancellationToken cancellationToken = default)
    {
        using var source = Open(input, cancellationToken);
        using var contents = Read(source, input, keepBodies: true, cancellationToken);
        return new StreamChecker(contents).Check();
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
    /// <param name="cancellationToken">Ends the reading.</param>
    public static IReadOnlyList<MigrationStreamDifference> Compare(
        MigrationStreamInput reference, MigrationStreamInput difference, bool values, CancellationToken cancellationToken = default)
    {
        using var source = Open(reference, cancellationToken);
        using var contents = Read(source, reference, keepBodies: values, cancellationToken);
        ThrowIfUnreadable(contents);
        using var otherSource = Open(difference, cancellationToken);
        using var other = Read(otherSource, difference, keepBodies: values, cancellationToken);
        ThrowIfUnreadable(other);
        return new StreamComparer(contents, other, values).Compare();
    }

    /// <summary>Compares a stream with what a QEMU can load.</summary>
    /// <param name="reference">The stream that is to be loaded.</param>
    /// <param name="dumpPath">What the destination's <c>qemu -M MACHINE -dump-vmstate FILE</c> wrote.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    public static IReadOnlyList<MigrationStreamDifference> CompareWithDump(
        MigrationStreamInput reference, string dumpPath, CancellationToken cancellationToken = default)
        => CompareWithDump(reference, budget => VmstateDump.Read(dumpPath, budget), cancellationToken);

    /// <summary>Compares a stream with what a QEMU can load, given as the JSON itself.</summary>
    public static IReadOnlyList<MigrationStreamDifference> CompareWithDumpText(
        MigrationStreamInput reference, string json, CancellationToken cancellationToken = default)
        => CompareWithDump(reference, _ => VmstateDump.Parse(Encoding.UTF8.GetBytes(json), "the device description"), cancellationToken);

    private static IReadOnlyList<MigrationStreamDifference> CompareWithDump(
        MigrationStreamInput reference, Func<MemoryBudget, VmstateDump> dump, CancellationToken cancellationToken)
    {
        using var source = Open(reference, cancellationToken);
        using var contents = Read(source, reference, keepBodies: false, cancellationToken);
        ThrowIfUnreadable(contents);
        return new DumpComparer(contents, dump(contents.Budget)).Compare();
    }

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

    internal static StreamSource Open(MigrationStreamInput input, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(input);
        return input.Open(cancellationToken);
    }

    internal static StreamContents Read(StreamSource source, MigrationStreamInput input, bool keepBodies, CancellationToken cancellationToken)
    {
        return MigrationStreamFile.Read(
            source, new StreamReadOptions { MaxMemory = input.MaxMemory, KeepBodies = keepBodies, Progress = input.Progress }, cancellationToken);
    }

    private static void ThrowIfForeign(StreamContents contents)
    {
        if (contents.Failure is { Reason: StreamError.NotAStream or StreamError.UnsupportedVersion, ByteOffset: < 8 })
        {
            throw Failure(contents);
        }
    }

    private static StreamException Failure(StreamContents contents)
    {
        var failure = contents.Failure!;
        return new StreamException(failure.Reason, $"'{contents.Name}': {failure.Message}", failure, failure.RecommendedAction)
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
