using System.Net.Sockets;

namespace MigrationOps.Engine.Qmp;

/// <content>The reader: the one task that takes bytes from the link and gives each message to whom it is for.</content>
internal sealed partial class QmpClient
{
    // What a silent monitor keeps; a burst or a large reply gets the large one for as long as it lasts.
    private const int SmallBuffer = 4 * 1024;
    private const int LargeBuffer = 128 * 1024;

    private async Task ReadAsync()
    {
        byte[] small = GC.AllocateUninitializedArray<byte>(SmallBuffer);
        byte[] buffer = small;
        try
        {
            while (true)
            {
                int count = await _link.ReceiveAsync(buffer).ConfigureAwait(false);
                _walker.Feed(buffer.AsSpan(0, count), last: count == 0);
                if (count == 0)
                {
                    End(Lost("QEMU closed it"));
                    return;
                }

                buffer = count == buffer.Length ? buffer.Length == LargeBuffer ? buffer : GC.AllocateUninitializedArray<byte>(LargeBuffer)
                    : count < SmallBuffer && _walker.IsBetween ? small : buffer;
            }
        }
        catch (QmpException e)
        {
            // Before a greeting it is no damaged monitor but something else.
            End(_greeting.Task.IsCompleted || e.Reason is QmpError.MessageTooLarge or QmpError.ConnectionLost ? Named(e)
                : new QmpException(QmpError.NotAMonitor, $"{Name}: what was sent is not the greeting of a QEMU monitor: {e.Message}", e) { Target = Name });
        }
        catch (Exception e)
        {
            // Whatever it was, reading has ended: waiting callers must get the failure. Other exceptions are faults of this program, and propagate.
            End(Lost(e.Message, e));
            if (!IsConnectionFailure(e))
            {
                throw;
            }
        }
        finally
        {
            _link.Dispose();
        }
    }

    private void Take(QmpMessage message)
    {
        switch (message)
        {
            case QmpMessage.Greeting greeting when _greeting.TrySetResult(greeting):
                break;
            case var _ when !_greeting.Task.IsCompleted:
                throw new QmpException(QmpError.InvalidMessage, "expected the member 'QMP', found another message");
            case QmpMessage.Event happened:
                _onEvent(happened);
                break;
            case QmpMessage.Return answer when TakePending(answer.Id) is { } pending:
                pending.Answer.TrySetResult(answer.Value);
                break;
            case QmpMessage.Error { Id: not null } error when TakePending(error.Id) is { } pending:
                pending.Answer.TrySetException(Refusal(pending.Command, error));
                break;
            case QmpMessage.Error { Id: null } error:
                TakeUnattributed(error);
                break;
            case QmpMessage.Return or QmpMessage.Error:
                LogLateAnswer(_logger, Name, message is QmpMessage.Return late ? late.Id ?? 0 : 0);
                break;
            default:
                LogUnknown(_logger, Name);
                break;
        }
    }

    // QEMU answers without a number when it could not parse the input. With one command on its way it is that one's.
    private void TakeUnattributed(QmpMessage.Error error)
    {
        long only = 0;
        int count;
        lock (_gate)
        {
            count = _pending.Count;
            only = count == 1 ? _pending.Keys.First() : 0;
        }

        if (count == 1 && TakePending(only) is { } pending)
        {
            pending.Answer.TrySetException(Refusal(pending.Command, error));
        }
        else if (count > 1)
        {
            throw new QmpException(QmpError.UnattributedError,
                $"{Name}: QEMU refused one of {count} commands without saying which: {error.Description}.")
            { QemuClass = error.Class };
        }
    }

    private PendingCommand? TakePending(long? id)
    {
        PendingCommand? pending = null;
        lock (_gate)
        {
            if (id is { } known)
            {
                _pending.Remove(known, out pending);
            }
        }

        if (pending is not null)
        {
            Release(pending);
        }

        return pending;
    }

    private QmpException Refusal(QmpCommand command, QmpMessage.Error error)
        => new(error.Class == "CommandNotFound" ? QmpError.CommandNotFound : QmpError.CommandFailed,
            $"{Name}: '{command.Name}' failed: {error.Description.TrimEnd('.')}.")
        {
            QemuClass = error.Class,
            QemuDescription = error.Description,
            Section = command.Name,
            Target = Name,
        };

    // Ends the connection once; whoever waits learns the first reason.
    private void End(QmpException reason)
    {
        PendingCommand[] waiting;
        lock (_gate)
        {
            if (_end is not null)
            {
                return;
            }

            _end = reason;
            waiting = [.. _pending.Values];
            _pending.Clear();
        }

        _link.Abort();
        if (_greeting.TrySetException(reason))
        {
            // Maybe no caller waits for it; an exception that was not looked at would be reported by the runtime.
            _ = _greeting.Task.Exception;
        }

        foreach (var pending in waiting)
        {
            pending.Answer.TrySetException(EndDuring(pending.Command, reason, wasSent: true));
            _ = pending.Answer.Task.Exception;
            Release(pending);
        }

        _ended.TrySetResult(reason);
        LogEnded(_logger, Name, reason.Message);
    }

    private QmpException EndDuring(QmpCommand command, QmpException reason, bool wasSent)
        => new(reason.Reason, wasSent && !command.IsQuery
            ? $"{reason.Message} Whether '{command.Name}' was carried out is unknown."
            : $"{reason.Message} '{command.Name}' has no answer.", reason, reason.RecommendedAction)
        {
            QemuClass = reason.QemuClass,
            ByteOffset = reason.ByteOffset,
            Section = command.Name,
            Target = Name,
        };

    private QmpException Lost(string why, Exception? cause = null)
        => new(QmpError.ConnectionLost, $"{Name}: the connection to the monitor has ended: {why.TrimEnd('.')}.", cause) { Target = Name };

    private QmpException Named(QmpException e)
        => new(e.Reason, e.Message.StartsWith(Name, StringComparison.Ordinal) ? e.Message : $"{Name}: {e.Message}", e)
        {
            QemuClass = e.QemuClass,
            ByteOffset = e.ByteOffset,
            Target = Name,
        };

    private static bool IsConnectionFailure(Exception e)
        => e is SocketException or ObjectDisposedException or IOException or Wire.WireException or OperationCanceledException;
}
