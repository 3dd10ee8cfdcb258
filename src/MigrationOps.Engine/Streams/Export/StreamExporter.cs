using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>What to take out of a stream, and where to.</summary>
internal sealed record StreamExportOptions
{
    /// <summary>The stream.</summary>
    public required MigrationStreamInput Input { get; init; }

    /// <summary>The device's idstr or layout, with * and ?.</summary>
    public required string Device { get; init; }

    /// <summary>The folder for the files, or the file if there is one device.</summary>
    public required string Destination { get; init; }

    /// <summary>True for bare bytes instead of a state file.</summary>
    public bool Raw { get; init; }

    /// <summary>True for the section's body as it is, whatever its device.</summary>
    public bool WholeSection { get; init; }
}

/// <summary>Takes the state of devices out of a stream, each into a state file that the Restore cmdlets and verification know.</summary>
internal static class StreamExporter
{
    private const int PieceLength = 64 * 1024;

    /// <summary>Exports every device that matches.</summary>
    /// <exception cref="StreamException">The stream is damaged, or has no such device.</exception>
    public static IReadOnlyList<MigrationStreamExport> Export(StreamExportOptions options, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(scope);
        using var source = options.Input.Open(scope);
        using var contents = MigrationStreamFile.Read(
            source, new StreamReadOptions { MaxMemory = options.Input.MaxMemory, KeepAllBodies = true }, scope);
        MigrationStreams.ThrowIfUnreadable(contents);
        var headers = FindHandlers(contents, options.Device);
        if (headers.Count == 0)
        {
            throw MigrationStreams.NotFound(contents, $"device '{options.Device}'");
        }

        bool folder = Directory.Exists(options.Destination);
        if (!folder && headers.Count > 1)
        {
            throw new StreamException(StreamError.NotSupported,
                $"'{options.Device}' names {headers.Count} devices ({string.Join(", ", headers.Select(h => h.IdStr))}), and '{options.Destination}' is one file.",
                action: "Give an existing folder as the destination, or the name of one device.")
            { Target = options.Destination };
        }

        return [.. headers.Select(h => ExportOne(contents, source.Channels, h, options,
            folder ? Path.Combine(options.Destination, FileNameOf(h) + ".state") : options.Destination, scope))];
    }

    private static List<StreamSection> FindHandlers(StreamContents contents, string pattern)
        => [.. contents.Sections.Select(s => s.Header).Where(h => h.IdStr != "ram").DistinctBy(h => (h.IdStr, h.InstanceId))
            .Where(h => MigrationStreams.Matches(pattern, h.IdStr)
                || MigrationStreams.Matches(pattern, contents.Description?.Find(h.IdStr, h.InstanceId)?.VmsdName ?? ""))];

    private static MigrationStreamExport ExportOne(
        StreamContents contents, IReadOnlyList<FileStream> files, StreamSection header, StreamExportOptions options, string path, TransferScope scope)
    {
        var startedAt = DateTimeOffset.UtcNow;
        var sections = contents.Sections.Where(s => s.Header.IdStr == header.IdStr && s.Header.InstanceId == header.InstanceId).ToList();
        var full = sections.Find(s => s.Header.Kind == SectionKind.Full);
        var backend = options.WholeSection || full is null || contents.Description is null ? null : DeviceDecoder.BackendField(DeviceDecoder.Decode(contents, full));
        bool vfio = !options.WholeSection && backend is null && (contents.VfioData.Exists(b => b.SectionId == header.Id)
            || contents.Channels.Exists(c => c.Devices.ContainsKey((header.IdStr, header.InstanceId))));
        var kind = backend is not null ? DeviceStateKind.VhostUser : vfio ? DeviceStateKind.Vfio : DeviceStateKind.SaveVmSection;
        var channels = vfio && contents.Channels.Exists(c => c.Devices.ContainsKey((header.IdStr, header.InstanceId)))
            ? VfioChannels.Collect(files, header, contents.PageSize, contents.Budget, scope)
            : null;
        using var file = AtomicFile.Create(path, scope);
        StateManifest manifest;
        using (var writer = new StateWriter(file.Stream, kind, options.Raw, computeHash: true, null, scope.CancellationToken))
        {
            if (backend is not null)
            {
                BackendChunks.Copy(contents.Bytes!, backend, header.Display, writer.WriteData);
            }
            else if (vfio)
            {
                contents.VfioData.FindAll(b => b.SectionId == header.Id).ForEach(b => Copy(contents, b.Offset, b.Length, writer, scope));
                foreach (var piece in channels?.Data ?? [])
                {
                    using var bytes = new FileBytes(piece.File.SafeFileHandle, 0);
                    Copy(bytes, piece.Offset, piece.Length, writer, scope);
                }
            }
            else
            {
                sections.ForEach(s => Copy(contents, s.Header.BodyOffset, s.BodyLength, writer, scope));
            }

            var digest = writer.EndData();
            if (vfio && !options.Raw)
            {
                writer.WritePart(VfioParts.Section, System.Text.Encoding.UTF8.GetBytes($"{header.IdStr}\0{header.InstanceId}"));
                writer.WritePart(VfioParts.Config, channels?.Config ?? ReadConfig(contents, full));
            }

            writer.Complete();
            manifest = new StateManifest
            {
                Kind = kind,
                Id = options.Raw ? null : writer.Header.Id,
                Raw = options.Raw,
                Device = header.IdStr,
                Source = "file:" + options.Input.Path,
                RawBytes = digest.Bytes,
                Chunks = digest.Chunks,
                Sha256 = digest.Sha256,
                Parts = writer.Parts,
                StartedAt = startedAt,
                FinishedAt = DateTimeOffset.UtcNow,
            };
        }

        manifest.CommitWith(file, scope);
        return new MigrationStreamExport
        {
            Source = options.Input.Path,
            Device = header.IdStr,
            Kind = kind switch
            {
                DeviceStateKind.VhostUser => "vhost-user",
                DeviceStateKind.Vfio => "vfio",
                _ => "section",
            },
            Path = file.Path,
            Bytes = manifest.RawBytes,
            Sha256 = manifest.Sha256,
            Raw = options.Raw,
        };
    }

    private static void Copy(StreamContents contents, long offset, long length, StateWriter writer, TransferScope scope)
        => Copy(contents.Bytes!, offset, length, writer, scope);

    private static void Copy(StreamBytes bytes, long offset, long length, StateWriter writer, TransferScope scope)
    {
        var piece = new byte[PieceLength];
        for (long done = 0; done < length;)
        {
            scope.CancellationToken.ThrowIfCancellationRequested();
            int count = (int)Math.Min(piece.Length, length - done);
            bytes.Read(offset + done, piece.AsSpan(0, count));
            writer.WriteData(piece.AsSpan(0, count));
            done += count;
        }
    }

    /// <summary>The device's configuration lies in its FULL section, between its two markers.</summary>
    private static byte[] ReadConfig(StreamContents contents, SectionContents? full)
    {
        if (full is null)
        {
            return [];
        }

        contents.Budget.Take(full.BodyLength, $"the configuration of {full.Header.Display}");
        var body = new byte[full.BodyLength];
        contents.Bytes!.Read(full.Header.BodyOffset, body);
        return body[..ConfigState.Parse(body, new PacketPlace(full.Header.Display, "main stream", full.Header.BodyOffset)).Length];
    }

    // Names such as 0000:00:02.0/vhost-user-fs are paths to QEMU, not to us.
    private static string FileNameOf(StreamSection header)
        => string.Concat(header.IdStr.Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_' ? c : '_')) + (header.InstanceId == 0 ? "" : $"-{header.InstanceId}");
}
