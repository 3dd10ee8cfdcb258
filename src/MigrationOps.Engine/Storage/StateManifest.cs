using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Storage;

/// <summary>What is written beside a state file, as <c>FILE.json</c>.</summary>
public sealed record StateManifest
{
    /// <summary>The version that this code writes and reads.</summary>
    public const int CurrentSchema = 1;

    /// <summary>Version of this layout.</summary>
    public int SchemaVersion { get; init; } = CurrentSchema;

    /// <summary>What sort of state it is.</summary>
    public required DeviceStateKind Kind { get; init; }

    /// <summary>The id in the state file's header; null for a raw file, which has none.</summary>
    public Guid? Id { get; init; }

    /// <summary>True if the file holds bare bytes.</summary>
    public required bool Raw { get; init; }

    /// <summary>The device, as far as the system tells.</summary>
    public string? Device { get; init; }

    /// <summary>Where the state came from: a socket, a URI.</summary>
    public string? Source { get; init; }

    /// <summary>The host on which it was saved.</summary>
    public string Host { get; init; } = Environment.MachineName;

    /// <summary>The device's features by name, where it has such.</summary>
    public string[] Features { get; init; } = [];

    /// <summary>The protocol's features by name, where it has such.</summary>
    public string[] ProtocolFeatures { get; init; } = [];

    /// <summary>Bytes of raw state.</summary>
    public required long RawBytes { get; init; }

    /// <summary>Chunks of the data in the file; 0 for a raw file.</summary>
    public required long Chunks { get; init; }

    /// <summary>SHA-256 of the raw state, lower-case hexadecimal; null if it was not computed.</summary>
    public required string? Sha256 { get; init; }

    /// <summary>Names and sizes in bytes of the parts behind the data.</summary>
    public Dictionary<string, long> Parts { get; init; } = [];

    /// <summary>When the transfer began.</summary>
    public required DateTimeOffset StartedAt { get; init; }

    /// <summary>When the transfer had ended.</summary>
    public required DateTimeOffset FinishedAt { get; init; }

    /// <summary>The program that wrote it.</summary>
    public string Tool { get; init; } = "MigrationOps " + (typeof(StateManifest).Assembly
        .GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion.Split('+')[0]);

    /// <summary>The manifest's path for a state file's.</summary>
    public static string PathFor(string statePath) => statePath + ".json";

    /// <summary>Reads the manifest of a state file.</summary>
    /// <param name="statePath">The state file's path.</param>
    /// <exception cref="StateFileException"><see cref="StateFileError.ManifestMissing"/> or
    /// <see cref="StateFileError.ManifestInvalid"/>.</exception>
    public static StateManifest Read(string statePath)
    {
        string path = PathFor(statePath);
        try
        {
            var info = new FileInfo(path);
            if (!info.Exists)
            {
                throw new StateFileException(StateFileError.ManifestMissing, $"The manifest '{path}' does not exist.") { Target = path };
            }

            // A manifest is a page of text; something huge under its name is not one.
            if (info.Length > 1 << 20)
            {
                throw Invalid(path, $"it has {info.Length:N0} bytes", null);
            }

            return Parse(File.ReadAllBytes(path), path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Invalid(path, e.Message.TrimEnd('.'), e);
        }
    }

    /// <summary>Reads a manifest's text.</summary>
    /// <param name="json">The text in UTF-8.</param>
    /// <param name="path">What errors call it.</param>
    /// <exception cref="StateFileException"><see cref="StateFileError.ManifestInvalid"/>.</exception>
    internal static StateManifest Parse(ReadOnlySpan<byte> json, string path)
    {
        try
        {
            // A text from an editor may start with a byte order mark.
            var manifest = JsonSerializer.Deserialize(json.StartsWith("\uFEFF"u8) ? json[3..] : json, ManifestJson.Default.StateManifest)
                ?? throw Invalid(path, "it is empty", null);
            return manifest.FindFault() is { } fault ? throw Invalid(path, fault, null) : manifest;
        }
        catch (JsonException e)
        {
            throw Invalid(path, e.Message.TrimEnd('.'), e);
        }
    }

    /// <summary>Makes a state file and this manifest durable under their names, both or neither.</summary>
    /// <param name="stateFile">Written to its end; stays the caller's.</param>
    /// <param name="scope">Cancellation of the writes.</param>
    internal void CommitWith(AtomicFile stateFile, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(stateFile);
        using var file = AtomicFile.Create(PathFor(stateFile.Path), scope);
        file.Stream.Write(JsonSerializer.SerializeToUtf8Bytes(this, ManifestJson.Default.StateManifest));
        file.Stream.Write("\n"u8);
        AtomicFile.CommitAll(stateFile, file);
    }

    // The reader of JSON puts null where a type says that there is none.
    private string? FindFault()
        => SchemaVersion != CurrentSchema ? $"schema version {SchemaVersion} is not known"
            : RawBytes < 0 || Chunks < 0 ? "it states a negative size"
            : Parts is null || Features is null || ProtocolFeatures is null || Host is null || Tool is null
                || Features.Contains(null!) || ProtocolFeatures.Contains(null!) ? "something that it must state is null"
            : null;

    private static StateFileException Invalid(string path, string why, Exception? inner)
        => new(StateFileError.ManifestInvalid, $"The manifest '{path}' cannot be used: {why}.", inner) { Target = path };
}

[JsonSourceGenerationOptions(
    WriteIndented = true,
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    UseStringEnumConverter = true)]
[JsonSerializable(typeof(StateManifest))]
internal sealed partial class ManifestJson : JsonSerializerContext;
