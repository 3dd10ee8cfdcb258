using System.Buffers;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Devices;

/// <summary>
/// A vhost-user back-end as a device of a migration stream: its internal state is the body of a FULL section, in the chunks in which
/// QEMU's vhost-user devices write it, see <see cref="ChunkHeader"/>. The back-end is
/// connected to before anything is sent, and once only, because many end when their front-end leaves.
/// </summary>
internal sealed class VhostBackendDevice : ISaveVmHandlers, IDisposable
{
    private const int ChunkSize = 1 << 20;

    private readonly string _socketPath;
    private readonly TimeSpan _timeout;
    private TransferScope? _scope;
    private VhostFrontend? _frontend;

    /// <summary>A device that is not connected yet.</summary>
    /// <param name="socketPath">The back-end's socket.</param>
    /// <param name="timeout">The longest time for which the back-end may not move.</param>
    public VhostBackendDevice(string socketPath, TimeSpan timeout)
    {
        _socketPath = socketPath;
        _timeout = timeout;
    }

    /// <inheritdoc/>
    public void SavePrepare(SaveVmContext context) => Connect(context);

    /// <inheritdoc/>
    public void SaveState(SaveVmSaveStream stream, SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(stream);
        VhostTransferPipe.Run(_frontend!, VhostTransferDirection.Save, _scope!, channel =>
        {
            WithBuffer(buffer =>
            {
                int count;
                while ((count = channel.Read(buffer)) > 0)
                {
                    WriteChunkHeader(stream, (uint)count);
                    stream.Write(buffer, 0, count);
                }
            });
            return true;
        });
        WriteChunkHeader(stream, 0);
    }

    /// <inheritdoc/>
    public void SaveCleanup(SaveVmContext context) => Dispose();

    /// <inheritdoc/>
    public void LoadSetup(SaveVmContext context) => Connect(context);

    /// <inheritdoc/>
    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
    {
        ArgumentNullException.ThrowIfNull(stream);
        VhostTransferPipe.Run(_frontend!, VhostTransferDirection.Load, _scope!, channel =>
        {
            try
            {
                WithBuffer(buffer => CopyChunks(stream, channel, buffer));
            }
            catch (Exception e) when (!channel.IsCauseOf(e))
            {
                // Gone before the channel ends: the back-end must not take half a state for a whole one.
                _frontend!.Dispose();
                throw;
            }

            return true;
        });
    }

    /// <inheritdoc/>
    public void LoadCleanup(SaveVmContext context) => Dispose();

    /// <summary>Leaves the back-end, as a cleanup does.</summary>
    public void Dispose()
    {
        _frontend?.Dispose();
        _scope?.Dispose();
        (_frontend, _scope) = (null, null);
    }

    // However long a chunk says it is, at most the buffer is held of it. Nothing behind the end mark may be read.
    private static void CopyChunks(SaveVmLoadStream stream, FdStream channel, byte[] buffer)
    {
        while (ReadChunkHeader(stream) is { IsEnd: false } chunk)
        {
            for (uint left = chunk.Length; left > 0;)
            {
                int count = stream.Read(buffer, 0, (int)Math.Min(left, (uint)buffer.Length));
                channel.Write(buffer, 0, count);
                left -= (uint)count;
            }
        }
    }

    private static ChunkHeader ReadChunkHeader(SaveVmLoadStream stream)
    {
        Span<byte> bytes = stackalloc byte[ChunkHeader.Size];
        stream.ReadExactly(bytes);
        var reader = WireReader.BigEndian(bytes);
        ChunkHeader.TryRead(ref reader, out var header);
        return header;
    }

    private static void WriteChunkHeader(SaveVmSaveStream stream, uint length)
    {
        Span<byte> header = stackalloc byte[ChunkHeader.Size];
        ChunkHeader.Write(header, length);
        stream.Write(header);
    }

    private static void WithBuffer(Action<byte[]> use)
    {
        byte[] buffer = ArrayPool<byte>.Shared.Rent(ChunkSize);
        try
        {
            use(buffer);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private void Connect(SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        Dispose();
        _scope = new TransferScope(_timeout, context.CancellationToken);
        _frontend = VhostFrontend.Connect(_socketPath, _scope);
        _frontend.Negotiate();
        _frontend.RequireDeviceState();
    }
}
