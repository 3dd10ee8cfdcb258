using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>Writes a device's state into a state file, the config state as a part of it. Nothing is there before the commit.</summary>
internal sealed class StateFileSink : IDeviceStateSink
{
    private readonly AtomicFile _file;
    private readonly StateWriter _writer;
    private readonly TransferScope _scope;
    private readonly string _idStr;
    private readonly uint _instanceId;
    private readonly DateTimeOffset _started = DateTimeOffset.UtcNow;
    private StateDigest _digest;

    /// <summary>Creates the temporary file.</summary>
    /// <param name="path">The file's path.</param>
    /// <param name="idStr">Name of the device's section.</param>
    /// <param name="instanceId">Number among the sections of that name.</param>
    /// <param name="scope">Cancellation.</param>
    public StateFileSink(string path, string idStr, uint instanceId, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(scope);
        _scope = scope;
        _idStr = idStr;
        _instanceId = instanceId;
        _file = AtomicFile.Create(path, scope);
        try
        {
            _writer = new StateWriter(_file.Stream, DeviceStateKind.Vfio, raw: false, computeHash: true, null, scope.CancellationToken);
        }
        catch
        {
            // The header is written at once, and may find no space.
            _file.Dispose();
            throw;
        }
    }

    /// <summary>The file's path.</summary>
    public string Path => _file.Path;

    /// <summary>SHA-256 of the raw data, once it is complete.</summary>
    public string? Sha256 => _digest.Sha256;

    /// <inheritdoc/>
    public void Write(ReadOnlySpan<byte> data) => _writer.WriteData(data);

    /// <inheritdoc/>
    public void Complete(ReadOnlySpan<byte> config)
    {
        _digest = _writer.EndData();
        _writer.WritePart(VfioParts.Section, System.Text.Encoding.UTF8.GetBytes($"{_idStr}\0{_instanceId}"));
        _writer.WritePart(VfioParts.Config, config);
        _writer.Complete();
    }

    /// <summary>Gives the file its name and writes its manifest.</summary>
    /// <param name="source">Where the state came from.</param>
    public void Commit(string source)
    {
        new StateManifest
        {
            Kind = DeviceStateKind.Vfio,
            Id = _writer.Header.Id,
            Raw = false,
            Device = _idStr,
            Source = source,
            RawBytes = _digest.Bytes,
            Chunks = _digest.Chunks,
            Sha256 = _digest.Sha256,
            Parts = _writer.Parts,
            StartedAt = _started,
            FinishedAt = DateTimeOffset.UtcNow,
        }.CommitWith(_file, _scope);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _writer.Dispose();
        _file.Dispose();
    }
}
