using System.Text.Json;
using System.Text.Json.Serialization;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Cpr;

/// <summary>A set in words, without its descriptors: for review, and to compare a later set with.</summary>
internal sealed record CprDescription
{
    /// <summary>The version that this code writes and reads.</summary>
    public const int CurrentSchema = 1;

    private const long MaxFileSize = 256 << 20;

    /// <summary>Version of this layout.</summary>
    public int SchemaVersion { get; init; }

    /// <summary>What the file is.</summary>
    public string Kind { get; init; } = "";

    /// <summary>When it was written.</summary>
    public DateTimeOffset Time { get; init; }

    /// <summary>The entries, newest first; without numbers of descriptors.</summary>
    public CprFd[] Entries { get; init; } = [];

    /// <summary>Names of the VFIO devices; null if the state has no section for them.</summary>
    public string[]? VfioDevices { get; init; }

    /// <summary>Writes a description; it appears whole or not at all.</summary>
    /// <returns>Its length in bytes.</returns>
    public static long Write(string path, IEnumerable<CprFd> entries, IReadOnlyList<CprVfioDevice>? devices, TransferScope scope)
    {
        byte[] json = JsonSerializer.SerializeToUtf8Bytes(new CprDescription
        {
            SchemaVersion = CurrentSchema,
            Kind = "cpr-state",
            Time = DateTimeOffset.UtcNow,
            Entries = [.. entries.Select(entry => entry with { Fd = -1 })],
            VfioDevices = devices?.Select(device => device.Name.ToString()).ToArray(),
        }, CprDescriptionJson.Default.CprDescription);
        using var file = AtomicFile.Create(path, scope);
        file.Stream.Write(json);
        file.Commit();
        return json.Length;
    }

    /// <summary>Reads a description.</summary>
    /// <exception cref="CprException"><see cref="CprError.InvalidDescription"/>.</exception>
    public static CprDescription Read(string path)
    {
        try
        {
            using var file = File.OpenRead(path);
            if (file.Length > MaxFileSize)
            {
                throw Invalid(path, $"it has {file.Length:N0} bytes", null);
            }

            var description = JsonSerializer.Deserialize(file, CprDescriptionJson.Default.CprDescription);
            return description is { Kind: "cpr-state", SchemaVersion: CurrentSchema, Entries: not null }
                ? description
                : throw Invalid(path, $"kind '{description?.Kind}', schema {description?.SchemaVersion}", null);
        }
        catch (JsonException e)
        {
            throw Invalid(path, e.Message.TrimEnd('.'), e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new WireException(e is FileNotFoundException or DirectoryNotFoundException ? WireError.NotFound : WireError.InputOutput,
                $"The description '{path}' cannot be read: {e.Message}", e)
            { Target = path };
        }
    }

    private static CprException Invalid(string path, string why, Exception? cause)
        => new(CprError.InvalidDescription, $"'{path}' is not a description of a CPR set: {why}.", cause) { Target = path };
}

[JsonSerializable(typeof(CprDescription))]
[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, UseStringEnumConverter = true)]
internal sealed partial class CprDescriptionJson : JsonSerializerContext;
