using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>A device's thread at the end of pre-copy, which sends its state in packets.</summary>
internal sealed class DeviceWorker(
    EntryContext context, DeviceWorker.Queue queue, Func<Exception, Exception> fail, Func<long> position, TransferScope scope)
{
    private readonly Lock _gate = new();
    private long _sent;
    private bool _closed;

    /// <summary>Puts a packet into the queue of the channels.</summary>
    internal delegate void Queue(EntryContext context, ReadOnlySpan<byte> data);

    internal SaveVmEntry Entry => context.Entry;

    internal SideThread? Thread { get; set; }

    internal void Run()
    {
        try
        {
            Entry.Handlers.SaveLiveCompletePrecopyThread(Send, context);
        }
        catch (Exception e) when (e is not OperationCanceledException || !scope.CancellationToken.IsCancellationRequested)
        {
            throw new SaveVmException(SaveVmError.HandlerFailed,
                $"{SaveVmHandler.SaveLiveCompletePrecopyThread} of {HandlerCaller.Name(Entry)} failed after {_sent:N0} bytes in packets, at byte {position():N0} of the stream: {e.Message}", e)
            { Section = HandlerCaller.Name(Entry), ByteOffset = position(), Target = Entry.ToString() };
        }
        finally
        {
            lock (_gate)
            {
                _closed = true;
            }
        }
    }

    private void Send(ReadOnlyMemory<byte> data)
    {
        lock (_gate)
        {
            if (_closed)
            {
                throw fail(new SaveVmException(SaveVmError.StreamAfterCall,
                    $"The handler of {HandlerCaller.Name(Entry)} sent a packet of {data.Length:N0} bytes after its call had ended.")
                { Section = HandlerCaller.Name(Entry) });
            }

            queue(context, data.Span);
            _sent += data.Length;
        }
    }
}
