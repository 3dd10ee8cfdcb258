using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// A connection whose first bytes were read already, and which may be silent for as long as another one is busy: who waits for the
/// migration's end has the deadline.
/// </summary>
internal sealed class PatientStream(Stream inner, byte[] first, TransferScope scope) : ForwardStream
{
    private int _used;

    public override int Read(Span<byte> buffer)
    {
        if (_used < first.Length)
        {
            int count = Math.Min(buffer.Length, first.Length - _used);
            first.AsSpan(_used, count).CopyTo(buffer);
            _used += count;
            return count;
        }

        while (true)
        {
            try
            {
                return inner.Read(buffer);
            }
            catch (WireException e) when (e.Reason == WireError.Timeout)
            {
                scope.CancellationToken.ThrowIfCancellationRequested();
            }
        }
    }
}
