using System.Diagnostics;
using System.Management.Automation;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>A monitor that a cmdlet was given, as it stands on the pipeline's thread: connected by the user, or an address.</summary>
internal sealed class GivenMonitor
{
    private static readonly TimeSpan LongestHold = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(20);

    private readonly LiveMonitor? _live;
    private readonly QmpMonitorOptions? _address;

    private GivenMonitor(LiveMonitor? live, QmpMonitorOptions? address) => (_live, _address) = (live, address);

    /// <summary>Where it listens.</summary>
    internal string Uri => _live?.Engine.Name ?? _address!.Endpoint.ToString();

    /// <summary>The address; null if it is connected.</summary>
    internal QmpMonitorOptions? Address => _address;

    /// <summary>The engine's session of one that is connected.</summary>
    internal QmpMonitor? Connected => _live?.Engine;

    /// <summary>What a parameter has.</summary>
    internal static GivenMonitor Of(object value, Func<string, string> resolve)
    {
        object monitor = (value as PSObject)?.BaseObject ?? value;
        return monitor is LiveMonitor live ? new GivenMonitor(live, null) : new GivenMonitor(null, MonitorAddress.Of(monitor, value as PSObject, resolve));
    }

    /// <summary>
    /// What a report names: the connection of this session, if there is one, because a second one would find the monitor taken.
    /// </summary>
    internal static GivenMonitor OfReport(string uri, Func<string, string> resolve)
        => RunspaceSession.Current.All<LiveMonitor>().FirstOrDefault(live => live.Uri == uri && live.IsConnected) is { } connected ? new GivenMonitor(connected, null) : Of(uri, resolve);

    /// <summary>The connection: the user's, which stays, or one that is closed with what is returned.</summary>
    internal async Task<OpenMonitor> OpenAsync(IOperationHost host, TimeSpan timeout)
    {
        if (_live is not null)
        {
            _live.Log.Target = host.Logger;
            return new OpenMonitor(_live.Engine, () =>
            {
                _live.Log.Target = NullLogger.Instance;
                return ValueTask.CompletedTask;
            });
        }

        var engine = await ConnectAsync(_address! with { Timeouts = QmpTimeouts.Of(timeout), AskName = true }, host).ConfigureAwait(false);
        return new OpenMonitor(engine, engine.DisposeAsync);
    }

    // The cmdlet before this one in the pipeline may not have left the monitor yet.
    private static async Task<QmpMonitor> ConnectAsync(QmpMonitorOptions options, IOperationHost host)
    {
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            try
            {
                return await QmpMonitor.ConnectAsync(options, host.Logger, host.CancellationToken).ConfigureAwait(false);
            }
            catch (QmpException e) when (e.Reason == QmpError.MonitorBusy && Stopwatch.GetElapsedTime(start) < LongestHold
                && e.Target is string path && (MonitorHolder.Find(path)?.Pid ?? Environment.ProcessId) == Environment.ProcessId)
            {
                await Task.Delay(Look, host.CancellationToken).ConfigureAwait(false);
            }
        }
    }
}

/// <summary>A connection for as long as a cmdlet needs it.</summary>
internal sealed class OpenMonitor(QmpMonitor engine, Func<ValueTask> close) : IAsyncDisposable
{
    internal QmpMonitor Engine => engine;

    public ValueTask DisposeAsync() => close();
}
