using System.Diagnostics;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qmp;

/// <content>Connecting, connecting again, and leases.</content>
internal sealed partial class QmpMonitor
{
    private static readonly TimeSpan ExitGrace = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan PauseWhileHeld = TimeSpan.FromMilliseconds(50);

    // The client whose connection stands, or a new one.
    private async Task<QmpClient> GetClientAsync(CancellationToken cancellationToken)
    {
        if (_client is { Ended.IsCompleted: false } standing)
        {
            return standing;
        }

        await _connecting.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            ThrowIfDisposed();
            if (_client is { Ended.IsCompleted: false } other)
            {
                return other;
            }

            bool again = _client is not null;
            if (again && await HasExitedAsync().ConfigureAwait(false))
            {
                throw Exited(await _client!.Ended.ConfigureAwait(false), null);
            }

            var client = await OpenAsync(cancellationToken).ConfigureAwait(false);
            if (again)
            {
                Reconnections++;
                await RunAsync(client, new QmpCommand("query-status"), null, cancellationToken).ConfigureAwait(false);
                await RunAsync(client, new QmpCommand("query-migrate"), null, cancellationToken).ConfigureAwait(false);
                LogReconnected(_logger, Name, State.RunState, State.Migration ?? "none");
            }

            _client = client;
            Events.Reopen();
            _ = WatchEndAsync(client);
            return client;
        }
        finally
        {
            _connecting.Release();
        }
    }

    private async Task WatchEndAsync(QmpClient client)
    {
        var reason = await client.Ended.ConfigureAwait(false);
        if (ReferenceEquals(_client, client))
        {
            Events.End(reason.Reason == QmpError.ConnectionLost && await HasExitedAsync().ConfigureAwait(false) ? Exited(reason, null) : reason);
        }
    }

    // Connects for the commands of one lease, and closes.
    private async Task<T> LeaseAsync<T>(Func<QmpClient, CancellationToken, Task<T>> use, CancellationToken cancellationToken)
    {
        await _connecting.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            ThrowIfDisposed();
            var pause = _lastLease == 0 ? TimeSpan.Zero : Options.LeaseInterval - Stopwatch.GetElapsedTime(_lastLease);
            if (pause > TimeSpan.Zero)
            {
                await Task.Delay(pause, cancellationToken).ConfigureAwait(false);
            }

            try
            {
                await using var client = await OpenWhenFreeAsync(cancellationToken).ConfigureAwait(false);
                return await use(client, cancellationToken).ConfigureAwait(false);
            }
            finally
            {
                _lastLease = Stopwatch.GetTimestamp();
            }
        }
        finally
        {
            _connecting.Release();
        }
    }

    // The manager takes the same socket for moments.
    private async Task<QmpClient> OpenWhenFreeAsync(CancellationToken cancellationToken)
    {
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            try
            {
                return await OpenAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (QmpException e) when (e.Reason == QmpError.MonitorBusy && Stopwatch.GetElapsedTime(start) < Options.Timeouts.Greeting)
            {
                await Task.Delay(PauseWhileHeld, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private async Task<QmpClient> OpenAsync(CancellationToken cancellationToken)
    {
        string? path = (Options.Endpoint as Endpoint.Unix)?.Path;
        if (path is not null)
        {
            MonitorManager.Check(path, Options.Lease);
            ThrowIfHeld(path, null);
        }

        try
        {
            var link = await QmpLink.ConnectAsync(Options.Endpoint, Options.Security, Options.Timeouts.Greeting, cancellationToken).ConfigureAwait(false);
            CheckIdentity(link);
            var client = await QmpClient.StartAsync(link, Name, Options.Timeouts, Options.WantOutOfBand && !Options.Lease && !IsProxy, IsProxy ? 1 : QmpClient.MostInBand, TakeEvent,
                () => State.MayBeBusy, _logger, cancellationToken).ConfigureAwait(false);
            Version = client.Greeting.Version;
            Capabilities = client.Greeting.Capabilities;
            OutOfBand = client.OutOfBand;
            LogConnected(_logger, Name, Version);
            return client;
        }
        catch (MigrationOpsException e) when (path is not null && e is QmpException { Reason: QmpError.NoGreeting } or WireException { Reason: WireError.ConnectFailed })
        {
            // Another client was faster, or QEMU has not noticed yet that one has gone.
            ThrowIfHeld(path!, e);
            throw;
        }
    }

    // libvirt's proxy takes what it has received for one command, and offers out of band what it does not do (measured: 11.3.0).
    private bool IsProxy => Options.Manager == VMManager.Libvirt;

    private void TakeEvent(QmpMessage.Event happened)
    {
        State.Take(happened);
        Events.Add(happened);
    }

    private void ThrowIfHeld(string path, Exception? cause)
    {
        if (MonitorHolder.Find(path) is { } holder)
        {
            throw new QmpException(QmpError.MonitorBusy, $"{Name}: {holder} is connected to this monitor, and QEMU serves one client at a time.", cause)
            {
                Peer = holder.ToString(),
                Target = path,
            };
        }
    }

    // A QEMU that was started anew at the same path has another guest state, whatever its name is.
    private void CheckIdentity(QmpLink link)
    {
        if (link.Peer is not { Pid: > 0 } now)
        {
            return;
        }

        long? startTime = ProcFiles.StartTime(now.Pid);
        if (Peer is null)
        {
            Peer = now;
            _startTime = startTime;
            _process = ProcessCalls.TryOpenProcess(now.Pid);
        }
        else if (Peer.Pid != now.Pid || _startTime != startTime)
        {
            link.Dispose();
            throw new QmpException(QmpError.DifferentQemu, $"{Name}: {now} answers now, not {Peer} as before.") { Peer = now.ToString(), Target = Name };
        }
    }

    // A closed connection is often the first sign of a process that is ending.
    private Task<bool> HasExitedAsync()
    {
        var process = _process;
        return process is null || process.IsClosed ? Task.FromResult(false) : Task.Run(() =>
        {
            using var scope = new TransferScope(ExitGrace);
            return scope.TryWait(process, PollEvents.Readable, scope.StartDeadline()) != PollEvents.None;
        });
    }

    private QmpException Exited(QmpException lost, QmpCommand? during)
        => new(QmpError.QemuExited, $"{Name}: {Peer} has ended{(during is null ? "" : $" during '{during.Name}'")}.", lost)
        {
            Peer = Peer?.ToString(),
            Section = during?.Name,
            Target = Name,
        };

    private void ThrowIfDisposed()
    {
        if (_disposed)
        {
            throw new QmpException(QmpError.Disconnected, $"{Name}: the monitor has been disconnected.") { Target = Name };
        }
    }
}
