using System.Text.Json;
using Microsoft.Extensions.Logging;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// One connection to a monitor: greeting, negotiation, commands by number, events in their order. Any number of callers may
/// have commands on their way at once. When the connection has ended, every command fails and nothing comes any more;
/// <see cref="QmpMonitor"/> is what connects again.
/// </summary>
internal sealed partial class QmpClient : IAsyncDisposable
{
    /// <summary>
    /// How many commands wait in band at most. QEMU stops reading, out-of-band commands too, when eight wait in its queue; one place stays
    /// free for those.
    /// </summary>
    internal const int MostInBand = 7;

    private readonly QmpLink _link;
    private readonly QmpTimeouts _timeouts;
    private readonly ILogger _logger;
    private readonly JsonObjectWalker _walker;
    private readonly SemaphoreSlim _sending = new(1);
    private readonly SemaphoreSlim _inBand;
    private readonly int _mostInBand;
    private readonly Lock _gate = new();
    private readonly Dictionary<long, PendingCommand> _pending = [];
    private readonly TaskCompletionSource<QmpMessage.Greeting> _greeting = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<QmpException> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Action<QmpMessage.Event> _onEvent;
    private readonly Task _reader;
    private long _lastId;
    private QmpException? _end;

    private QmpClient(QmpLink link, string name, QmpTimeouts timeouts, int mostInBand, Action<QmpMessage.Event> onEvent, ILogger logger)
    {
        _mostInBand = mostInBand;
        _inBand = new(mostInBand);
        _link = link;
        _timeouts = timeouts;
        _onEvent = onEvent;
        _logger = logger;
        Name = name;
        _walker = new JsonObjectWalker(value => Take(QmpMessage.Read(value)));
        _reader = ReadAsync();
    }

    /// <summary>What errors call the monitor.</summary>
    internal string Name { get; }

    /// <summary>What the QEMU said first.</summary>
    internal QmpMessage.Greeting Greeting => _greeting.Task.Result;

    /// <summary>True if out-of-band commands were offered and enabled.</summary>
    internal bool OutOfBand { get; private set; }

    /// <summary>Asked when an answer is late: true if the QEMU is known to be in a state that holds its big lock.</summary>
    internal Func<bool>? IsExpectedToBeBusy { get; init; }

    /// <summary>Becomes the reason when the connection has ended. It never fails.</summary>
    internal Task<QmpException> Ended => _ended.Task;

    /// <summary>
    /// Waits for the greeting and negotiates. The link is the client's from then on, also when this fails. Every event is given to
    /// <paramref name="onEvent"/>, in order, on the reader's thread; it must not wait.
    /// </summary>
    /// <exception cref="QmpException"><see cref="QmpError.NoGreeting"/>, <see cref="QmpError.NotAMonitor"/>,
    /// <see cref="QmpError.NegotiationRefused"/> and what can happen to a connection.</exception>
    internal static async Task<QmpClient> StartAsync(QmpLink link, string name, QmpTimeouts timeouts, bool wantOutOfBand, int mostInBand,
        Action<QmpMessage.Event> onEvent, Func<bool> isExpectedToBeBusy, ILogger logger, CancellationToken cancellationToken)
    {
        var client = new QmpClient(link, name, timeouts, mostInBand, onEvent, logger) { IsExpectedToBeBusy = isExpectedToBeBusy };
        try
        {
            await client.NegotiateAsync(wantOutOfBand, cancellationToken).ConfigureAwait(false);
            return client;
        }
        catch
        {
            await client.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Sends a command and waits for its answer.</summary>
    /// <param name="command">What to do.</param>
    /// <param name="timeout">The longest wait; null for that of the monitor.</param>
    /// <param name="cancellationToken">Ends the wait. The command may be carried out all the same.</param>
    /// <returns>What the command returned, with memory of its own.</returns>
    /// <exception cref="QmpException">QEMU refused it, did not answer, or the connection ended.</exception>
    internal async Task<JsonElement> ExecuteAsync(QmpCommand command, TimeSpan? timeout, CancellationToken cancellationToken)
    {
        if (command.OutOfBand && !OutOfBand)
        {
            throw new QmpException(QmpError.NotSupported, $"{Name}: '{command.Name}' cannot be sent out of band: this monitor does not offer it.",
                action: "Send it in band, or use a monitor on a UNIX or TCP socket.");
        }

        var patience = timeout is { } given ? QmpTimeouts.Of(given) : _timeouts;
        if (!command.OutOfBand)
        {
            await AcquirePlaceAsync(command, patience, cancellationToken).ConfigureAwait(false);
        }

        var pending = new PendingCommand(command);
        long id;
        lock (_gate)
        {
            if (_end is not null)
            {
                Release(pending);
                throw EndDuring(command, _end, wasSent: false);
            }

            id = ++_lastId;
            _pending.Add(id, pending);
        }

        LogSent(_logger, Name, command.Name, id);
        await SendAsync(command, id, patience, cancellationToken).ConfigureAwait(false);
        return await WaitForAnswerAsync(pending, patience, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Closes the connection and waits for the reader. Commands on their way fail.</summary>
    public async ValueTask DisposeAsync()
    {
        End(new QmpException(QmpError.Disconnected, $"{Name}: the monitor has been disconnected."));
        await _reader.ConfigureAwait(false);
    }

    private async Task NegotiateAsync(bool wantOutOfBand, CancellationToken cancellationToken)
    {
        QmpMessage.Greeting greeting;
        try
        {
            greeting = await _greeting.Task.WaitAsync(_timeouts.Greeting, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            throw new QmpException(QmpError.NoGreeting,
                $"{Name}: connected, and no greeting came within {_timeouts.Greeting.TotalSeconds:0.###} s.")
            { Peer = _link.Peer?.ToString(), Target = Name };
        }

        bool enable = wantOutOfBand && greeting.Capabilities.Contains("oob");
        var arguments = enable ? new System.Text.Json.Nodes.JsonObject { ["enable"] = new System.Text.Json.Nodes.JsonArray("oob") } : null;
        try
        {
            await ExecuteAsync(new QmpCommand("qmp_capabilities", arguments), _timeouts.Greeting, cancellationToken).ConfigureAwait(false);
        }
        catch (QmpException e) when (e.Reason is QmpError.CommandFailed or QmpError.CommandNotFound)
        {
            throw new QmpException(QmpError.NegotiationRefused, $"{Name}: QEMU {greeting.Version} refused the negotiation: {e.Message}", e)
            {
                QemuClass = e.QemuClass,
                Target = Name,
            };
        }

        OutOfBand = enable;
    }

    private async Task AcquirePlaceAsync(QmpCommand command, QmpTimeouts patience, CancellationToken cancellationToken)
    {
        if (!await _inBand.WaitAsync(patience.Busy, cancellationToken).ConfigureAwait(false))
        {
            throw new QmpException(QmpError.QemuBusy,
                $"{Name}: '{command.Name}' was not sent: {_mostInBand} commands have waited for their answers for {patience.Busy.TotalSeconds:0.###} s.")
            { Section = command.Name, Target = Name };
        }
    }

    private async Task SendAsync(QmpCommand command, long id, QmpTimeouts patience, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        if (patience.Busy != Timeout.InfiniteTimeSpan)
        {
            limit.CancelAfter(patience.Busy);
        }

        bool started = false;
        try
        {
            await _sending.WaitAsync(limit.Token).ConfigureAwait(false);
            try
            {
                started = true;
                await _link.SendAsync(command.Encode(id), limit.Token).ConfigureAwait(false);
            }
            finally
            {
                _sending.Release();
            }
        }
        catch (OperationCanceledException) when (limit.IsCancellationRequested)
        {
            Forget(id);
            if (started)
            {
                // Half a command may be in the socket; nothing can follow it.
                End(Lost($"'{command.Name}' could not be sent whole"));
            }

            cancellationToken.ThrowIfCancellationRequested();
            throw new QmpException(QmpError.NoReply, $"{Name}: the monitor took nothing for {patience.Busy.TotalSeconds:0.###} s.") { Section = command.Name, Target = Name };
        }
        catch (Exception e) when (IsConnectionFailure(e))
        {
            // The reader sees the same end, perhaps with a better reason behind what was sent before it.
            await _reader.WaitAsync(TimeSpan.FromSeconds(1), CancellationToken.None).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            End(Lost(e.Message, e));
        }
    }

    private async Task<JsonElement> WaitForAnswerAsync(PendingCommand pending, QmpTimeouts patience, CancellationToken cancellationToken)
    {
        var command = pending.Command;
        try
        {
            return await pending.Answer.Task.WaitAsync(patience.Command, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            if (!await IsAliveAsync(command, cancellationToken).ConfigureAwait(false))
            {
                throw new QmpException(QmpError.NoReply, $"{Name}: no answer to '{command.Name}' within {patience.Command.TotalSeconds:0.###} s.")
                {
                    Section = command.Name,
                    Target = Name,
                };
            }
        }

        LogBusy(_logger, Name, command.Name, patience.Command.TotalSeconds);
        try
        {
            return await pending.Answer.Task.WaitAsync(patience.Busy - patience.Command, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            throw new QmpException(QmpError.QemuBusy,
                $"{Name}: no answer to '{command.Name}' within {patience.Busy.TotalSeconds:0.###} s. QEMU is alive, and holds its big lock.")
            {
                Section = command.Name,
                Target = Name,
            };
        }
    }

    // Out-of-band commands are carried out by the monitor's own thread, without the big lock. Any answer will do.
    private async Task<bool> IsAliveAsync(QmpCommand late, CancellationToken cancellationToken)
    {
        if (IsExpectedToBeBusy?.Invoke() == true)
        {
            return true;
        }

        if (!OutOfBand || late.OutOfBand)
        {
            return false;
        }

        var probe = new PendingCommand(new QmpCommand("query-yank", OutOfBand: true));
        long id;
        lock (_gate)
        {
            if (_end is not null)
            {
                return false;
            }

            id = ++_lastId;
            _pending.Add(id, probe);
        }

        try
        {
            await SendAsync(probe.Command, id, QmpTimeouts.Of(_timeouts.Greeting), cancellationToken).ConfigureAwait(false);
            await probe.Answer.Task.WaitAsync(_timeouts.Greeting, cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (TimeoutException)
        {
            return false;
        }
        catch (QmpException e)
        {
            return e.Reason is QmpError.CommandFailed or QmpError.CommandNotFound;
        }
    }

    private void Forget(long id)
    {
        PendingCommand? pending;
        lock (_gate)
        {
            _pending.Remove(id, out pending);
        }

        if (pending is not null)
        {
            Release(pending);
        }
    }

    private void Release(PendingCommand pending)
    {
        if (!pending.Command.OutOfBand)
        {
            _inBand.Release();
        }
    }

    private sealed class PendingCommand(QmpCommand command)
    {
        internal QmpCommand Command { get; } = command;

        internal TaskCompletionSource<JsonElement> Answer { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    [LoggerMessage(EventId = 61, Level = LogLevel.Trace, Message = "{Monitor}: {Command} ({Id}) sent")]
    private static partial void LogSent(ILogger logger, string monitor, string command, long id);

    [LoggerMessage(EventId = 62, Level = LogLevel.Warning,
        Message = "{Monitor}: no answer to {Command} for {Seconds} s; QEMU is alive and holds its big lock, the wait continues")]
    private static partial void LogBusy(ILogger logger, string monitor, string command, double seconds);

    [LoggerMessage(EventId = 63, Level = LogLevel.Debug, Message = "{Monitor}: the connection has ended: {Reason}")]
    private static partial void LogEnded(ILogger logger, string monitor, string reason);

    [LoggerMessage(EventId = 64, Level = LogLevel.Warning, Message = "{Monitor}: a message that is neither answer nor event was ignored")]
    private static partial void LogUnknown(ILogger logger, string monitor);

    [LoggerMessage(EventId = 65, Level = LogLevel.Debug, Message = "{Monitor}: a late answer, {Id}, to a command whose wait has ended")]
    private static partial void LogLateAnswer(ILogger logger, string monitor, long id);
}
