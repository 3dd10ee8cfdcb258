using System.Security.Cryptography;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>The state of one device to be sent.</summary>
public interface IDeviceStateSource : IDisposable
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
public sealed class StateFileSource : IDeviceStateSource
{
    private readonly FdStream _file;
    private readonly IoScope _scope;

    /// <summary>Opens and verifies a state file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="scope">Cancellation.</param>
    /// <exception cref="StateFileException">It is damaged, cut, or of another kind.</exception>
    public StateFileSource(string path, IoScope scope)
    {
        _scope = scope;
        Path = path;
        _file = StateFile.OpenRead(path, scope);
        try
        {
            var parts = Read(Stream.Null);
            string[] name = System.Text.Encoding.UTF8.GetString(parts.GetValueOrDefault(StateFileSink.NamePart) ?? []).Split('\0');
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

    /// <inheritdoc/>
    public string Path { get; }

    /// <inheritdoc/>
    public string? Sha256 { get; private set; }

    string? IDeviceStateSource.Path => Path;

    /// <inheritdoc/>
    public byte[] WriteTo(Stream target)
        => Read(target).TryGetValue(StateFileSink.ConfigPart, out byte[]? config) ? config : ConfigState.Empty();

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

/// <summary>The state of a device, read from it: it is stopped, gives its state, and stays stopped.</summary>
public sealed class DeviceSource : IDeviceStateSource
{
    private const int BufferSize = 1024 * 1024;

    private readonly VfioDevice _device;
    private readonly IoScope _scope;

    /// <summary>Prepares the source.</summary>
    /// <param name="device">The device; stays the caller's.</param>
    /// <param name="idStr">Name of the section that it is sent as.</param>
    /// <param name="scope">Cancellation.</param>
    public DeviceSource(VfioDevice device, string idStr, IoScope scope)
    {
        _device = device;
        IdStr = idStr;
        _scope = scope;
    }

    /// <inheritdoc/>
    public string IdStr { get; }

    /// <inheritdoc/>
    public uint InstanceId => 0;

    /// <inheritdoc/>
    public string? Path => _device.Path;

    /// <inheritdoc/>
    public string? Sha256 { get; private set; }

    /// <inheritdoc/>
    public byte[] WriteTo(Stream target)
    {
        ArgumentNullException.ThrowIfNull(target);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        _device.Enter(VfioState.StopCopy);
        byte[] buffer = new byte[BufferSize];
        using (var data = _device.OpenData(FileAccess.Read, _scope))
        {
            int count;
            while ((count = Read(data, buffer)) > 0)
            {
                hash.AppendData(buffer.AsSpan(0, count));
                target.Write(buffer.AsSpan(0, count));
            }
        }

        _device.Enter(VfioState.Stop);
        Sha256 = Convert.ToHexStringLower(hash.GetHashAndReset());
        return ConfigState.Empty();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    private int Read(FdStream data, byte[] buffer)
    {
        try
        {
            return data.Read(buffer);
        }
        catch (WireException e)
        {
            throw new VfioException(VfioError.DataTransferFailed, $"'{_device.Path}' does not give its state: {e.Message}", e)
            { Target = _device.Path };
        }
    }
}
