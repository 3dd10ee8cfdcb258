using System.Text.Json;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Devices;

/// <summary>
/// A state file as a device of a migration stream: the file goes as it is, with its manifest, while the device runs. It is verified as
/// a whole before anything is sent, and again on the target, where it appears under its name only then.
/// </summary>
/// <remarks>
/// <code>
/// START: u32 "MOSF", u32 1, u64 length of the file, u32 length of the manifest (0 for none), manifest, u32 0
/// PART:  ( u32 length, bytes of the file )*, u32 0
/// END:   ( u32 length, bytes of the file )*, u32 0xffffffff when all of it has been sent
/// </code>
/// </remarks>
internal sealed class StateFileDevice : ISaveVmHandlers, IDisposable
{
    private const uint Magic = 0x4d4f5346;
    private const uint Version = 1;
    private const uint EndOfFile = uint.MaxValue;
    private const int MaxChunk = 256 << 10;
    private const int MaxManifest = 1 << 20;

    private readonly string _path;
    private TransferScope? _scope;
    private FdStream? _source;
    private AtomicFile? _target;
    private StateManifest? _manifest;
    private long _length;
    private long _moved;
    private DateTimeOffset _startedAt;

    /// <summary>A device for a state file.</summary>
    /// <param name="path">The file that is sent, or the name that it gets; an earlier file of that name is replaced.</param>
    public StateFileDevice(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        _path = Path.GetFullPath(path);
    }

    /// <inheritdoc/>
    public void SavePrepare(SaveVmContext context)
    {
        Begin(context);
        _source = StateFile.OpenRead(_path, _scope!);
        var verification = StateFile.Verify(_source, _path, kind: null, raw: false, requireManifest: false, _scope!);
        if (verification.Failure is { } failure)
        {
            throw failure;
        }

        if (verification.Header is null)
        {
            throw new StateFileException(StateFileError.RawNotAllowed, $"'{_path}' holds raw bytes, which the target cannot verify.") { Target = _path };
        }

        (_manifest, _length, _moved) = (verification.Manifest, _source.Length, 0);
        _source.Position = 0;
    }

    /// <inheritdoc/>
    public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(stream);
        byte[] manifest = _manifest is null ? [] : JsonSerializer.SerializeToUtf8Bytes(_manifest, ManifestJson.Default.StateManifest);
        stream.WriteUInt32(Magic);
        stream.WriteUInt32(Version);
        stream.WriteUInt64((ulong)_length);
        stream.WriteUInt32((uint)manifest.Length);
        stream.WriteBytes(manifest);
        stream.WriteUInt32(0);
    }

    /// <inheritdoc/>
    public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
    {
        Send(stream);
        stream.WriteUInt32(0);
        return _moved == _length;
    }

    /// <inheritdoc/>
    public PendingBytes StatePendingEstimate(SaveVmContext context) => new(_length - _moved);

    /// <inheritdoc/>
    public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context)
    {
        Send(stream);
        stream.WriteUInt32(EndOfFile);
    }

    /// <inheritdoc/>
    public void SaveCleanup(SaveVmContext context) => Dispose();

    /// <inheritdoc/>
    public void LoadSetup(SaveVmContext context) => Begin(context);

    /// <inheritdoc/>
    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
    {
        ArgumentNullException.ThrowIfNull(stream);
        if (_target is null)
        {
            BeginFile(stream);
        }

        byte[] buffer = new byte[MaxChunk];
        uint length;
        while ((length = stream.ReadUInt32()) is not (0 or EndOfFile))
        {
            if (length > MaxChunk || length > _length - _moved)
            {
                throw Malformed(stream, $"a piece of {length:N0} bytes comes where {_length - _moved:N0} are left");
            }

            var piece = buffer.AsSpan(0, (int)length);
            stream.ReadExactly(piece);
            _target!.Stream.Write(piece);
            _moved += length;
        }

        if (length == EndOfFile)
        {
            Commit(stream, context!);
        }
    }

    /// <inheritdoc/>
    public void LoadCleanup(SaveVmContext context)
    {
        bool lacking = _target is not null;
        Dispose();
        if (lacking)
        {
            throw new StateFileException(StateFileError.Truncated, $"'{_path}' did not come to its end; the file is as it was.") { Target = _path };
        }
    }

    /// <summary>Ends a migration of it, as a cleanup does. What was not received as a whole is gone.</summary>
    public void Dispose()
    {
        _source?.Dispose();
        _target?.Dispose();
        _scope?.Dispose();
        (_source, _target, _scope) = (null, null, null);
    }

    private void Begin(SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        Dispose();
        _scope = new TransferScope(Timeout.InfiniteTimeSpan, context.CancellationToken);
        (_manifest, _length, _moved) = (null, 0, 0);
        _startedAt = DateTimeOffset.UtcNow;
    }

    private void Send(SaveVmSaveStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        byte[] buffer = new byte[MaxChunk];
        while (_moved < _length && !stream.BudgetExceeded)
        {
            int count = _source!.Read(buffer.AsSpan(0, (int)Math.Min(buffer.Length, _length - _moved)));
            if (count == 0)
            {
                throw new StateFileException(StateFileError.Truncated, $"'{_path}' was cut to {_moved:N0} bytes while it was sent.") { Target = _path, ByteOffset = _moved };
            }

            stream.WriteUInt32((uint)count);
            stream.Write(buffer, 0, count);
            _moved += count;
        }
    }

    private void BeginFile(SaveVmLoadStream stream)
    {
        uint magic = stream.ReadUInt32(), version = stream.ReadUInt32();
        if (magic != Magic || version != Version)
        {
            throw Malformed(stream, $"a state file's section starts with 0x{Magic:x8} and {Version}, this one with 0x{magic:x8} and {version}");
        }

        ulong length = stream.ReadUInt64();
        uint manifest = stream.ReadUInt32();
        if (length > long.MaxValue || manifest > MaxManifest)
        {
            throw Malformed(stream, $"file length {length:N0} or manifest length {manifest:N0} is out of range");
        }

        byte[] json = stream.ReadBytes((int)manifest);
        _manifest = manifest == 0 ? null : StateManifest.Parse(json, _path);
        if (_manifest is { Raw: true })
        {
            throw Malformed(stream, "the manifest is that of bare bytes");
        }

        _length = (long)length;
        _target = AtomicFile.Create(_path, _scope!);
    }

    private void Commit(SaveVmLoadStream stream, SaveVmContext context)
    {
        if (_moved != _length)
        {
            throw Malformed(stream, $"the file ends {_length - _moved:N0} bytes before its length");
        }

        var file = _target!;
        file.Stream.Position = 0;
        var verification = StateFile.Verify(file.Stream, _path, _manifest, _scope!, out var parts);
        if (verification.Failure is { } failure)
        {
            throw failure;
        }

        var (header, digest) = (verification.Header!.Value, verification.Digest!.Value);
        var manifest = _manifest ?? new StateManifest
        {
            Kind = header.Kind,
            Id = header.Id,
            Raw = false,
            Device = context.IdStr,
            Source = $"section {context.IdStr} of a migration stream",
            RawBytes = digest.Bytes,
            Chunks = digest.Chunks,
            Sha256 = digest.Sha256,
            Parts = parts,
            StartedAt = _startedAt,
            FinishedAt = DateTimeOffset.UtcNow,
        };
        manifest.CommitWith(file, _scope!);
        file.Dispose();
        _target = null;
    }

    private StateFileException Malformed(SaveVmLoadStream stream, string why)
        => new(StateFileError.Malformed, $"The section for '{_path}' is malformed: {why}, at byte {stream.StreamOffset:N0} of the stream.")
        { ByteOffset = stream.StreamOffset, Target = _path };
}
