using System.Collections.Concurrent;
using System.Security.Cryptography;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Storage;

/// <summary>
/// SHA-256 on a thread of its own, beside the thread that moves the data. A fixed set of buffers goes round between the
/// two, so memory is bounded and the faster side waits for the slower one.
/// </summary>
internal sealed class HashWorker : IDisposable
{
    internal const int BufferSize = 256 * 1024;
    private const int BufferCount = 6;

    private readonly BlockingCollection<byte[]> _free = new(BufferCount);
    private readonly BlockingCollection<(byte[] Buffer, int Length)> _full = new(BufferCount);
    private readonly SideThread _thread;
    private readonly byte[] _digest = new byte[SHA256.HashSizeInBytes];

    internal HashWorker()
    {
        for (int i = 0; i < BufferCount; i++)
        {
            _free.Add(GC.AllocateUninitializedArray<byte>(BufferSize));
        }

        _thread = SideThread.Start("state hash", Run);
    }

    /// <summary>A buffer to fill; give it back with <see cref="Hash"/>.</summary>
    internal byte[] Rent(CancellationToken cancellationToken) => _free.Take(cancellationToken);

    /// <summary>Hands over a buffer of which <paramref name="length"/> bytes count next. It must not change any more.</summary>
    internal void Hash(byte[] buffer, int length) => _full.Add((buffer, length));

    /// <summary>Waits for what was handed over and gives the digest in lower-case hexadecimal.</summary>
    internal string Finish()
    {
        _full.CompleteAdding();
        _thread.Join();
        return Convert.ToHexStringLower(_digest);
    }

    public void Dispose()
    {
        _full.CompleteAdding();
        _thread.Join();
        _thread.Dispose();
        _full.Dispose();
        _free.Dispose();
    }

    private void Run()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var (buffer, length) in _full.GetConsumingEnumerable())
        {
            hash.AppendData(buffer, 0, length);
            _free.Add(buffer);
        }

        hash.GetHashAndReset(_digest);
    }
}
