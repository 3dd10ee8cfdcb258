using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Listens on the source to what the target says, on a thread of its own: the target may fail at any moment, and the
/// reason is worth more than the broken connection that follows. Silence is no failure here; who waits for a message has the
/// deadline.
/// </summary>
internal sealed class ReturnPathListener : IDisposable
{
    private readonly Stream _stream;
    private readonly Thread _thread;
    private readonly ManualResetEvent _acknowledged = new(false);
    private readonly ManualResetEvent _ended = new(false);
    private volatile Exception? _failure;
    private volatile bool _finished;

    internal ReturnPathListener(Stream stream)
    {
        _stream = stream;
        _thread = new Thread(Listen) { IsBackground = true, Name = "return path" };
        _thread.Start();
    }

    /// <summary>Set once the target allows the switchover.</summary>
    internal WaitHandle Acknowledged => _acknowledged;

    /// <summary>Set once nothing more will come.</summary>
    internal WaitHandle Ended => _ended;

    /// <summary>True once the switchover is allowed.</summary>
    internal bool HasAcknowledged => _acknowledged.WaitOne(0);

    /// <summary>True once the target has said that it has everything.</summary>
    internal bool HasFinished => _finished;

    /// <summary>How the target failed, or broke the protocol.</summary>
    internal Exception? Failure => _failure;

    /// <summary>Waits for the thread, whose reads have been cancelled or have ended.</summary>
    public void Dispose()
    {
        _thread.Join();
        _acknowledged.Dispose();
        _ended.Dispose();
    }

    private void Listen()
    {
        try
        {
            Read();
        }
        catch (OperationCanceledException)
        {
            // The migration is over and needs no more answers.
        }
        catch (Exception e)
        {
            _failure = e is SaveVmException ? e : new SaveVmException(SaveVmError.ConnectionLost,
                $"The target's answers cannot be read: {e.Message.TrimEnd('.')}.", e)
            { Section = "return path" };
        }
        finally
        {
            _ended.Set();
        }
    }

    private void Read()
    {
        byte[] buffer = new byte[ReturnPathCodec.MaxMessage];
        int used = 0;
        long offset = 0;
        while (true)
        {
            var reader = WireReader.BigEndian(buffer.AsSpan(0, used), offset);
            if (ReturnPathCodec.TryRead(ref reader) is { } message)
            {
                buffer.AsSpan(reader.Position, used - reader.Position).CopyTo(buffer);
                used -= reader.Position;
                offset += reader.Position;
                if (!Handle(message))
                {
                    return;
                }

                continue;
            }

            int count = ReadSome(buffer.AsSpan(used));
            if (count == 0)
            {
                throw new SaveVmException(SaveVmError.ConnectionLost,
                    $"The target closed the connection at byte {offset + used:N0} of the return path, without saying that it has finished.")
                { Section = "return path", ByteOffset = offset + used };
            }

            used += count;
        }
    }

    private int ReadSome(Span<byte> buffer)
    {
        while (true)
        {
            try
            {
                return _stream.Read(buffer);
            }
            catch (WireException e) when (e.Reason == WireError.Timeout)
            {
                continue;
            }
        }
    }

    private bool Handle(ReturnPathMessage message)
    {
        switch (message.Type)
        {
            case ReturnPathMessageType.Pong:
                return true;
            case ReturnPathMessageType.SwitchoverAck:
                _acknowledged.Set();
                return true;
            case ReturnPathMessageType.Shut when message.Value == 0:
                _finished = true;
                return false;
            case ReturnPathMessageType.Shut:
                throw new SaveVmException(SaveVmError.TargetFailed, $"The target failed to load the stream (SHUT with value {message.Value}).")
                { Section = "return path" };
            default:
                throw new SaveVmException(SaveVmError.InvalidReturnPath,
                    $"The target sent {message.Type}, which belongs to postcopy; this migration stays in pre-copy.")
                { Section = "return path" };
        }
    }
}
