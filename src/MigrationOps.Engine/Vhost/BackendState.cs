using System.Buffers;
using System.Buffers.Binary;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vhost;

/// <summary>
/// What the embedded back-end has for an internal state: where a SAVE takes its bytes from, and where a LOAD puts them.
/// </summary>
public abstract class BackendState
{
    /// <summary>Writes the whole state. Called on the back-end's thread.</summary>
    /// <param name="channel">The transfer's channel; stays the back-end's.</param>
    public abstract void WriteTo(Stream channel);

    /// <summary>Takes a new state, up to the channel's end. The old one stays if this throws.</summary>
    /// <param name="channel">The transfer's channel; stays the back-end's.</param>
    /// <exception cref="InvalidDataException">The state is not acceptable; CHECK_DEVICE_STATE will say so.</exception>
    public abstract void ReadFrom(Stream channel);
}

/// <summary>A state in memory, such as a small back-end's.</summary>
/// <param name="content">The state at the beginning.</param>
/// <param name="limit">The largest state that is taken, in bytes.</param>
public sealed class MemoryBackendState(ReadOnlyMemory<byte> content, int limit = 64 << 20) : BackendState
{
    /// <summary>The state as it is now.</summary>
    public ReadOnlyMemory<byte> Content { get; private set; } = content;

    /// <inheritdoc/>
    public override void WriteTo(Stream channel) => channel.Write(Content.Span);

    /// <inheritdoc/>
    public override void ReadFrom(Stream channel)
    {
        var taken = new ArrayBufferWriter<byte>();
        while (channel.Read(taken.GetSpan(64 << 10)) is > 0 and var count)
        {
            taken.Advance(count);
            if (taken.WrittenCount > limit)
            {
                throw new InvalidDataException($"The state has more than {limit:N0} bytes.");
            }
        }

        Content = taken.WrittenSpan.ToArray();
    }
}

/// <summary>
/// A state of any size that needs no memory: 1 MiB blocks of bytes that follow from their number. Loading compares what
/// comes with it, so it tells whether exactly this state has arrived.
/// </summary>
/// <param name="size">Bytes of the state.</param>
public sealed class PatternBackendState(long size) : BackendState
{
    private const int BlockSize = 1 << 20;

    private readonly byte[] _block = MakeBlock();

    /// <inheritdoc/>
    public override void WriteTo(Stream channel)
    {
        for (long offset = 0; offset < size; offset += BlockSize)
        {
            channel.Write(BlockAt(offset));
        }
    }

    /// <inheritdoc/>
    public override void ReadFrom(Stream channel)
    {
        byte[] taken = new byte[BlockSize];
        for (long offset = 0; offset < size; offset += BlockSize)
        {
            var expected = BlockAt(offset);
            int count = channel.ReadAtLeast(taken.AsSpan(0, expected.Length), expected.Length, throwOnEndOfStream: false);
            if (!expected.SequenceEqual(taken.AsSpan(0, count)))
            {
                throw new InvalidDataException($"The state differs from the pattern in the block at byte {offset:N0}.");
            }
        }

        if (channel.ReadByte() >= 0)
        {
            throw new InvalidDataException($"The state has more than its {size:N0} bytes.");
        }
    }

    private ReadOnlySpan<byte> BlockAt(long offset)
    {
        BinaryPrimitives.WriteInt64LittleEndian(_block, offset);
        return _block.AsSpan(0, (int)Math.Min(BlockSize, size - offset));
    }

    private static byte[] MakeBlock()
    {
        byte[] block = new byte[BlockSize];
        new Random(42).NextBytes(block);
        return block;
    }
}

/// <summary>A state in a file of bare bytes; loading replaces the file atomically.</summary>
/// <param name="path">The file. It need not exist before the first load.</param>
public sealed class FileBackendState(string path) : BackendState
{
    /// <inheritdoc/>
    public override void WriteTo(Stream channel)
    {
        using var scope = new TransferScope(TransferScope.DefaultTimeout);
        using var file = StateFile.OpenRead(path, scope);
        file.CopyTo(channel);
    }

    /// <inheritdoc/>
    public override void ReadFrom(Stream channel)
    {
        using var scope = new TransferScope(TransferScope.DefaultTimeout);
        using var file = AtomicFile.Create(path, scope);
        channel.CopyTo(file.Stream);
        file.Commit();
    }
}
