using System.Security.Cryptography;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>The state of one device to be sent.</summary>
internal interface IDeviceStateSource : IDisposable
{
    /// <summary>Name of the device's section.</summary>
    string IdStr { get; }

    /// <summary>Number among the sections of that name.</summary>
    uint InstanceId { get; }

    /// <summary>Where it comes from, for the result.</summary>
    string? Path { get; }

    /// <summary>SHA-256 of the raw data, once it was written.</summary>
    string? Sha256 { get; }

    /// <summary>Writes the raw data, all of it.</summary>
    /// <returns>The config state, both markers included.</returns>
    byte[] WriteTo(Stream target);
}

/// <summary>The state of a device from a state file. The file is verified whole when it is opened, and again while it is sent.</summary>
internal sealed class StateFileSource : IDeviceStateSource
{
    private readonly FdStream _file;
    private readonly TransferScope _scope;

    /// <summary>Opens and verifies a state file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="scope">Cancellation.</param>
    /// <exception cref="StateFileException">It is damaged, cut, or of another kind.</exception>
    public StateFileSource(string path, TransferScope scope)
    {
        _scope = scope;
        Path = path;
        _file = StateFile.OpenRead(path, scope);
        try
        {
            var parts = Read(Stream.Null);
            Config = parts.TryGetValue(VfioParts.Config, out byte[]? config) ? config : ConfigState.Empty();
            string[] name = System.Text.Encoding.UTF8.GetString(parts.GetValueOrDefault(VfioParts.Section) ?? []).Split('\0');
            IdStr = name[0].Length > 0 ? name[0] : System.IO.Path.GetFileNameWithoutExtension(path) + "/vfio";
            InstanceId = name.Length > 1 && uint.TryParse(name[1], out uint instance) ? instance : 0;
        }
        catch
        {
            _file.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public string IdStr { get; }

    /// <inheritdoc/>
    public uint InstanceId { get; }

    /// <summary>The state file.</summary>
    public string Path { get; }

    /// <inheritdoc/>
    public string? Sha256 { get; private set; }

    /// <summary>The config state, both markers included.</summary>
    internal byte[] Config { get; }

    string? IDeviceStateSource.Path => Path;

    /// <inheritdoc/>
    public byte[] WriteTo(Stream target)
    {
        Read(target);
        return Config;
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private Dictionary<string, byte[]> Read(Stream target)
    {
        _file.Position = 0;
        using var reader = new StateReader(_file, Path, raw: false, computeHash: true, null, _scope.CancellationToken);
        reader.ReadHeader(DeviceStateKind.Vfio);
        reader.CopyData(target);
        Sha256 = reader.ReadRest(expectEnd: true).Sha256;
        return reader.Parts;
    }
}
