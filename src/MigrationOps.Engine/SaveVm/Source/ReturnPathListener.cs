using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Listens on the source to what the target says, on a thread of its own: the target may fail at any moment, and the
/// reason is worth more than the broken connection that follows. Silence is no failure here; who waits for a message has the
/// deadline.
/// </summary>
internal sealed class ReturnPathListener : IDisposable
{
    private readonly ReturnPathReader _reader;
    private readonly PostcopyAnswers? _postcopy;
    private readonly SideThread _thread;
    private readonly SwitchoverAcks _acks;
    private volatile Exception? _failure;
    private volatile bool _finished;

    /// <summary>Starts to listen.</summary>
    /// <param name="stream">The connection; it stays the caller's.</param>
    /// <param name="acks">Gets the acknowledgements of the switchover; stays the caller's.</param>
    /// <param name="postcopy">Gets the messages of postcopy; null in a migration that stays in pre-copy.</param>
    internal ReturnPathListener(Stream stream, SwitchoverAcks acks, PostcopyAnswers? postcopy)
    {
        _reader = new ReturnPathReader(stream);
        _acks = acks;
        _postcopy = postcopy;
        _thread = SideThread.Start("return path", Listen);
    }

    /// <summary>Set once nothing more will come.</summary>
    internal WaitHandle Ended => _thread.Ended;

    /// <summary>True once the target has said that it has everything.</summary>
    internal bool HasFinished => _finished;

    /// <summary>How the target failed, or broke the protocol.</summary>
    internal Exception? Failure => _failure;

    /// <summary>Waits for the thread, whose reads have been cancelled or have ended.</summary>
    public void Dispose()
    {
        _thread.Join();
        _thread.Dispose();
    }

    private void Listen()
    {
        try
        {
            Read();
        }
        catch (OperationCanceledException)
        {
            // The migration is over and needs no further answers.
        }
        catch (Exception e)
        {
            _failure = e is SaveVmException or StreamException ? e : new SaveVmException(SaveVmError.ConnectionLost,
                $"The target's answers cannot be read: {e.Message.TrimEnd('.')}.", e)
            { Section = "return path" };
        }
    }

    private void Read()
    {
        while (Handle(_reader.ReadMessage()))
        {
        }
    }

    private bool Handle(ReturnPathMessage message)
    {
        switch (message.Type)
        {
            case ReturnPathMessageType.Pong:
                _postcopy?.Pong(message.Value);
                return true;
            case ReturnPathMessageType.SwitchoverAck:
                _acks.Receive(_reader.Offset);
                return true;
            case ReturnPathMessageType.Shut when message.Value == 0:
                _finished = true;
                return false;
            case ReturnPathMessageType.Shut:
                throw new SaveVmException(SaveVmError.TargetFailed, $"The target failed to load the stream (SHUT with value {message.Value}).")
                { Section = "return path" };
            case var _ when _postcopy is null:
                throw new StreamException(StreamError.InvalidReturnPath,
                    $"The target sent {message.Type}, a message of postcopy; this migration stays in pre-copy.")
                { Section = "return path" };
            default:
                _postcopy.Handle(message, _reader);
                return true;
        }
    }
}
