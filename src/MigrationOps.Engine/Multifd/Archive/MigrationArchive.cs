using System.Reflection;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Multifd;

/// <summary>One stream of an archived migration.</summary>
/// <param name="Name">Name of the file in the archive's folder.</param>
/// <param name="Channel">Number of the channel; null for the main stream.</param>
/// <param name="Bytes">Its length.</param>
/// <param name="Sha256">SHA-256 of its bytes in lower-case hexadecimal.</param>
internal sealed record ArchivedStream(string Name, int? Channel, long Bytes, string Sha256);

/// <summary>The state of one device in an archived migration.</summary>
/// <param name="IdStr">Name of the device's section.</param>
/// <param name="InstanceId">Number among the sections of that name.</param>
/// <param name="Packets">Packets over channels.</param>
/// <param name="Bytes">Raw data in order.</param>
/// <param name="ConfigBytes">Length of the config state.</param>
internal sealed record ArchivedDevice(string IdStr, uint InstanceId, long Packets, long Bytes, int ConfigBytes);

/// <summary>The index of an archived migration, <c>index.json</c> in its folder: main stream and channels as they were received.</summary>
internal sealed record MigrationArchive
{
    /// <summary>Name of the index.</summary>
    public const string IndexName = "index.json";

    /// <summary>Name of the main stream's file.</summary>
    public const string MainName = "main.stream";

    /// <summary>The version that this code writes and reads.</summary>
    public const int CurrentSchema = 1;

    private const int LargestIndex = 16 * 1024 * 1024;

    /// <summary>Version of this layout.</summary>
    public int SchemaVersion { get; init; } = CurrentSchema;

    /// <summary>What the folder holds.</summary>
    public string Kind { get; init; } = "MultifdMigration";

    /// <summary>Machine type of the source.</summary>
    public required string Machine { get; init; }

    /// <summary>UUID of the virtual machine; zeros if it has none.</summary>
    public required Guid Uuid { get; init; }

    /// <summary>Size of a target page in bytes.</summary>
    public required int PageSize { get; init; }

    /// <summary>Compression of the pages.</summary>
    public required string Compression { get; init; }

    /// <summary>Main stream and channels.</summary>
    public required ArchivedStream[] Streams { get; init; }

    /// <summary>The VFIO devices of the migration.</summary>
    public required ArchivedDevice[] Devices { get; init; }

    /// <summary>Where the migration was received.</summary>
    public required string Source { get; init; }

    /// <summary>The host that received it.</summary>
    public string Host { get; init; } = Environment.MachineName;

    /// <summary>When it had been received.</summary>
    public required DateTimeOffset FinishedAt { get; init; }

    /// <summary>The program that wrote it.</summary>
    public string Tool { get; init; } = "MigrationOps " + (typeof(MigrationArchive).Assembly
        .GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion.Split('+')[0]);

    /// <summary>The channels' files, by number.</summary>
    [JsonIgnore]
    public IEnumerable<ArchivedStream> Channels => Streams.Where(s => s.Channel is not null).OrderBy(s => s.Channel);

    /// <summary>The name of a channel's file.</summary>
    public static string ChannelName(int id) => $"channel-{id}.stream";

    /// <summary>Reads and checks the index: every file there, of its length.</summary>
    /// <exception cref="MultifdException"><see cref="MultifdError.ArchiveInvalid"/>.</exception>
    public static MigrationArchive Read(string folder)
    {
        string path = Path.Combine(folder, IndexName);
        MigrationArchive archive;
        try
        {
            var info = new FileInfo(path);
            if (!info.Exists || info.Length > LargestIndex)
            {
                throw Invalid(folder, info.Exists ? $"its index has {info.Length:N0} bytes" : $"it has no {IndexName}");
            }

            archive = JsonSerializer.Deserialize(File.ReadAllBytes(path), ArchiveJson.Default.MigrationArchive)
                ?? throw Invalid(folder, "its index is empty");
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException)
        {
            throw Invalid(folder, $"its index cannot be read: {e.Message.TrimEnd('.')}", e);
        }

        if (archive.SchemaVersion != CurrentSchema || !StreamFormat.IsPageSize(archive.PageSize))
        {
            throw Invalid(folder, $"its index has schema version {archive.SchemaVersion} and page size {archive.PageSize}");
        }

        archive.CheckFiles(folder);
        return archive;
    }

    internal void Write(string folder)
        => File.WriteAllBytes(Path.Combine(folder, IndexName), JsonSerializer.SerializeToUtf8Bytes(this, ArchiveJson.Default.MigrationArchive));

    /// <summary>Reads every byte and compares the digests.</summary>
    /// <param name="folder">The archive's folder.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    public void CheckDigests(string folder, CancellationToken cancellationToken)
    {
        byte[] buffer = new byte[1024 * 1024];
        foreach (var stream in Streams)
        {
            using var file = OpenStream(folder, stream);
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            int count;
            while ((count = file.Read(buffer)) > 0)
            {
                cancellationToken.ThrowIfCancellationRequested();
                hash.AppendData(buffer, 0, count);
            }

            if (Convert.ToHexStringLower(hash.GetHashAndReset()) != stream.Sha256)
            {
                throw Invalid(folder, $"'{stream.Name}' is not what was received: its SHA-256 differs");
            }
        }
    }

    internal static FileStream OpenStream(string folder, ArchivedStream stream)
    {
        try
        {
            return new FileStream(Path.Combine(folder, stream.Name), FileMode.Open, FileAccess.Read, FileShare.Read, 0);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Invalid(folder, $"'{stream.Name}' cannot be read: {e.Message.TrimEnd('.')}", e);
        }
    }

    private void CheckFiles(string folder)
    {
        int?[] channels = [.. Channels.Select(c => c.Channel)];
        if (Streams.Count(s => s.Channel is null) != 1 || !channels.SequenceEqual(Enumerable.Range(0, channels.Length).Cast<int?>()))
        {
            throw Invalid(folder, "its index does not name one main stream and channels from 0 without gaps");
        }

        foreach (var stream in Streams)
        {
            // A name leads nowhere else, whoever wrote the index.
            string expected = stream.Channel is { } id ? ChannelName(id) : MainName;
            var info = new FileInfo(Path.Combine(folder, expected));
            if (stream.Name != expected || !info.Exists || info.Length != stream.Bytes)
            {
                throw Invalid(folder, !info.Exists ? $"'{expected}' is missing"
                    : $"'{expected}' has {info.Length:N0} bytes, the index states {stream.Bytes:N0} of '{stream.Name}'");
            }
        }
    }

    private static MultifdException Invalid(string folder, string what, Exception? inner = null)
        => new(MultifdError.ArchiveInvalid, $"The archive '{folder}' cannot be used: {what}.", inner) { Target = folder };
}

[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(MigrationArchive))]
internal sealed partial class ArchiveJson : JsonSerializerContext;
