using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The multifd channels of a source: connections beside the main one, a thread each, which share one queue; and, once the device has
/// stopped, a worker per device that fills it.
/// <code>
/// connect all → init message on each → ( packets of any device on any channel )* → end of each channel → the target has read them
/// </code>
/// The first failure of any thread is kept by the scope, which ends every wait of the migration.
/// </summary>
internal sealed class OutgoingChannels(int count, TransferScope scope) : IDisposable
{
    /// <summary>The largest packet that a device may send, in bytes.</summary>
    internal const int MaxPacket = 16 << 20;

    // What QEMU's VFIO devices put into one, header included.
    private const int UsualPacket = (1 << 20) + 64;

    // However many channels there are, so much waits in the queue at most, unless packets are larger than usual.
    private const int MostBuffers = 64;

    private readonly DevicePacketQueue _queue = new(UsualPacket, Math.Clamp(2 * count, 2, MostBuffers), 1, scope.CancellationToken);
    private readonly List<CountedStream> _streams = [];
    private readonly List<SideThread> _threads = [];
    private readonly List<DeviceWorker> _workers = [];
    private long _packets;
    private volatile bool _over;

    /// <summary>Called when a channel has failed, before that ends the migration: the target may say why on the return path.</summary>
    internal Action? Broken { get; set; }

    internal int Count => count;

    internal long Packets => Interlocked.Read(ref _packets);

    /// <summary>Bytes that have gone over the channels.</summary>
    internal long Bytes => scope.Moved;

    /// <summary>Opens the channels. The main connection comes before: a target with TLS takes the first one for it.</summary>
    /// <param name="open">Opens one connection; it stays the caller's.</param>
    internal void Connect(Func<TransferScope, Stream> open)
    {
        for (int id = 0; id < count; id++)
        {
            CountedStream stream;
            try
            {
                stream = new CountedStream(open(scope), scope);
            }
            catch (WireException e) when (e.Reason is WireError.ConnectFailed or WireError.NotFound)
            {
                // The main channel has connected, so the target is there: it has all the channels that it wants.
                throw Dropped(id, $"it took the main channel and {id} of {count} multifd channels", e);
            }

            var init = new ChannelInit(Guid.Empty, (byte)id);
            _streams.Add(stream);
            _threads.Add(SideThread.Start($"multifd channel {id}", scope, () => Drain(init, stream), () => Broken?.Invoke()));
        }
    }

    /// <summary>Starts the worker of a device.</summary>
    /// <param name="context">The device.</param>
    /// <param name="position">The offset in the main stream, for errors.</param>
    internal void StartWorker(EntryContext context, Func<long> position)
    {
        var worker = new DeviceWorker(context, Queue, SentTooLate, position, scope);
        _workers.Add(worker);
        worker.Thread = SideThread.Start($"device state of {context.Entry}", scope, worker.Run);
    }

    /// <summary>
    /// Waits until every worker has returned and every channel has carried what they sent, and ends the channels. A worker that neither
    /// sends nor returns within the deadline fails the migration, and so does a target that ends meanwhile.
    /// </summary>
    internal void Join(SourceReturnPath target)
    {
        foreach (var worker in _workers)
        {
            Await(worker.Thread!, target, () => new SaveVmException(SaveVmError.HandlerTimeout,
                $"{SaveVmHandler.SaveLiveCompletePrecopyThread} of {HandlerCaller.Name(worker.Entry)} neither sent a packet nor returned within {scope.Timeout.TotalSeconds:0.###} s.")
            { Section = HandlerCaller.Name(worker.Entry), Target = worker.Entry.ToString() });
        }

        _queue.Complete();
        for (int id = 0; id < _threads.Count; id++)
        {
            string channel = $"channel {id}";
            Await(_threads[id], target, () => new SaveVmException(SaveVmError.PeerSilent,
                $"The target takes nothing from {channel} for {scope.Timeout.TotalSeconds:0.###} s.")
            { Section = channel });
        }
    }

    /// <summary>After the target's word: makes sure that it has read every channel to its end.</summary>
    internal void CheckRead()
    {
        for (int id = 0; id < _streams.Count; id++)
        {
            if (_streams[id].WasDropped(scope, $"the end of channel {id}", out var cause))
            {
                throw Dropped(id, "it says that it succeeded, and has not read that channel to its end", cause);
            }
        }
    }

    /// <summary>
    /// Waits for the threads, whose waits have been cancelled; a worker that hangs in a handler is left behind, and its later packets
    /// are refused.
    /// </summary>
    /// <returns>False if one was left behind.</returns>
    internal bool End()
    {
        _over = true;
        return SideThread.JoinAll(Threads, HandlerWatch.CancelGrace);
    }

    /// <summary>Gives back what the threads waited on; all of them have ended.</summary>
    public void Dispose()
    {
        _queue.Dispose();
        foreach (var thread in Threads)
        {
            thread.Dispose();
        }
    }

    private IEnumerable<SideThread> Threads => _workers.Select(w => w.Thread!).Concat(_threads);

    private void Queue(EntryContext context, ReadOnlySpan<byte> data)
    {
        if (data.Length is 0 or > MaxPacket)
        {
            throw new ArgumentOutOfRangeException(nameof(data), data.Length, $"A packet has 1 to {MaxPacket:N0} bytes.");
        }

        byte[] buffer = _queue.Rent(data.Length);
        DeviceStatePacket.Write(buffer, context.IdStr, context.InstanceId, data.Length);
        data.CopyTo(buffer.AsSpan(DeviceStatePacket.Size));
        _queue.Put(buffer, DeviceStatePacket.Size + data.Length);
        Interlocked.Increment(ref _packets);
    }

    private Exception SentTooLate(Exception failure)
    {
        if (!_over)
        {
            scope.Fail(failure);
        }

        return failure;
    }

    private void Drain(ChannelInit init, CountedStream stream)
    {
        string channel = $"channel {init.Id}";
        try
        {
            _queue.Drain(init, stream);
            stream.EndWriting();
        }
        catch (Exception e) when (e is WireException or IOException)
        {
            throw StreamFailure.OfChannel(e, channel);
        }
    }

    // Bytes and packets of any channel are progress.
    private void Await(SideThread thread, SourceReturnPath target, Func<SaveVmException> silent)
    {
        if (!thread.Await(() => Bytes + Packets, scope, target.Ended))
        {
            // Ends the waits of the workers that are still at it.
            var failure = target.Over ?? silent();
            scope.Fail(failure);
            throw failure;
        }
    }

    private static MultifdException Dropped(int id, string why, Exception? inner)
        => new(MultifdError.TargetDroppedChannel, $"The target does not take channel {id}: {why}.", inner,
            "Make sure that the target's device does not run, then migrate again with the same number of multifd channels on both sides.")
        { Section = $"channel {id}" };
}
