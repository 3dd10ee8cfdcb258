using System.Security.Cryptography;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// The state of a device, read from it: while it runs, if that is wanted and the device can, and the rest after it was
/// stopped. It stays stopped.
/// </summary>
internal sealed class DeviceSource : IDeviceStateSource
{
    private const int BlockSize = 1024 * 1024;

    private readonly VfioDevice _device;
    private readonly TransferScope _scope;

    /// <summary>Prepares the source.</summary>
    /// <param name="device">The device; stays the caller's.</param>
    /// <param name="idStr">Name of the section that it is sent as.</param>
    /// <param name="scope">Cancellation.</param>
    public DeviceSource(VfioDevice device, string idStr, TransferScope scope)
    {
        _device = device;
        IdStr = idStr;
        _scope = scope;
    }

    /// <summary>True to take state while the device runs, if it has PRE_COPY.</summary>
    public bool PreCopies { get; init; }

    /// <summary>Called after each block of pre-copy; true when the initial part has just been written whole.</summary>
    public Action<bool>? Iterated { get; init; }

    /// <summary>Bytes that were taken while the device ran.</summary>
    public long PrecopyBytes { get; private set; }

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
        var rest = _device.RestState;
        try
        {
            return CopyTo(target);
        }
        catch
        {
            // What was written is not the whole state, so it is useless elsewhere: the device resumes here.
            _device.ReturnTo(rest);
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    private byte[] CopyTo(Stream target)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] buffer = new byte[BlockSize];
        if (PreCopies && _device.Flags.HasFlag(VfioMigrationFlags.PreCopy) && _device.State == VfioState.Running)
        {
            CopyWhileRunning(buffer, target, hash);
        }

        _device.Enter(VfioState.StopCopy);
        using (var data = _device.OpenData(FileAccess.Read, _scope))
        {
            while (CopyBlock(data, buffer, target, hash, inPreCopy: false) > 0)
            {
                // The end of the descriptor is the end of the state.
            }
        }

        _device.Enter(VfioState.Stop);
        Sha256 = Convert.ToHexStringLower(hash.GetHashAndReset());
        return _device.ReadConfigState();
    }

    // Until the initial part is out and the rest fits into one block. A device that changes its state as fast as it is read
    // is stopped when it has given twice what it had at the start.
    private void CopyWhileRunning(byte[] buffer, Stream target, IncrementalHash hash)
    {
        _device.Enter(VfioState.PreCopy);
        using var data = _device.OpenData(FileAccess.Read, _scope);
        var left = _device.GetPreCopyInfo();
        decimal most = BlockSize + 2 * ((decimal)left.InitialBytes + left.DirtyBytes);
        bool initialSent = false;
        do
        {
            int count = left.IsEmpty ? 0 : CopyBlock(data, buffer, target, hash, inPreCopy: true);
            PrecopyBytes += count;
            left = count == 0 ? default : _device.GetPreCopyInfo();
            bool completesInitial = !initialSent && left.InitialBytes == 0;
            initialSent |= completesInitial;
            Iterated?.Invoke(completesInitial);
        }
        while (PrecopyBytes < most && (!initialSent || left.DirtyBytes > BlockSize));
    }

    private int CopyBlock(FdStream data, byte[] buffer, Stream target, IncrementalHash hash, bool inPreCopy)
    {
        int count = Read(data, buffer, inPreCopy);
        hash.AppendData(buffer.AsSpan(0, count));
        if (count > 0)
        {
            target.Write(buffer.AsSpan(0, count));
        }

        return count;
    }

    private int Read(FdStream data, byte[] buffer, bool inPreCopy)
    {
        try
        {
            return _device.ReadData(data, buffer, inPreCopy);
        }
        catch (WireException e)
        {
            throw new VfioException(VfioError.DataTransferFailed, $"'{_device.Path}' does not give its state: {e.Message}", e)
            { Target = _device.Path };
        }
    }
}
