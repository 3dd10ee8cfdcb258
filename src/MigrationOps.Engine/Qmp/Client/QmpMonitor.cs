using System.Diagnostics;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// A QEMU's monitor as the engine uses it: commands, events, the schema, and what is known of the QEMU's state. It survives
/// the loss of its connection: the next command connects again, asks for the state anew, and makes sure that the same process
/// answers. A command that can change something is never sent twice.
/// </summary>
/// <remarks>
/// Connected until it is disposed; with <see cref="QmpMonitorOptions.Lease"/> only while commands run. Every member may
/// be used from any thread and at the same time.
/// </remarks>
internal sealed partial class QmpMonitor : IAsyncDisposable
{
    /// <summary>The most commands of one lease.</summary>
    internal const int MostPerLease = 2;

    private readonly ILogger _logger;
    private readonly SemaphoreSlim _connecting = new(1);
    private QmpClient? _client;
    private SafeFileHandle? _process;
    private long? _startTime;
    private long _lastLease;
    private volatile bool _disposed;

    private QmpMonitor(QmpMonitorOptions options, ILogger logger)
    {
        Options = options;
        _logger = logger;
    }

    /// <summary>How it was connected.</summary>
    internal QmpMonitorOptions Options { get; }

    /// <summary>What errors call it.</summary>
    internal string Name => Options.Endpoint.ToString();

    /// <summary>The name of the VM; null if it has none or was not asked for (<see cref="QmpMonitorOptions.AskName"/>).</summary>
    internal string? VMName { get; private set; }

    /// <summary>What manages the VM, as far as the address tells.</summary>
    internal VMManager Manager => Options.Manager != VMManager.None ? Options.Manager : Options.Endpoint is Endpoint.Unix { Path: var path } ? MonitorManager.OfSocket(path) : VMManager.None;

    /// <summary>The QEMU's version.</summary>
    internal QmpVersion Version { get; private set; } = new(0, 0, 0, "");

    /// <summary>The protocol capabilities that the monitor offers.</summary>
    internal IReadOnlyList<string> Capabilities { get; private set; } = [];

    /// <summary>True if out-of-band commands can be sent.</summary>
    internal bool OutOfBand { get; private set; }

    /// <summary>The process that listens on the UNIX socket: QEMU, or who opened the socket for it; null over TCP.</summary>
    internal PeerProcessInfo? Peer { get; private set; }

    /// <summary>The last events.</summary>
    internal QmpEventLog Events { get; } = new();

    /// <summary>What is known of the QEMU's state.</summary>
    internal MonitorState State { get; } = new();

    /// <summary>How often the connection was lost and made again; events in between are lost.</summary>
    internal int Reconnections { get; private set; }

    /// <summary>True while a connection stands.</summary>
    internal bool IsConnected => _client is { Ended.IsCompleted: false };

    /// <summary>Connects, and reads the greeting. With a lease the connection is closed again.</summary>
    /// <exception cref="QmpException"><see cref="QmpError.MonitorBusy"/> with the holder's name, <see cref="QmpError.NoGreeting"/>,
    /// <see cref="QmpError.ManagedMonitor"/> and others.</exception>
    /// <exception cref="WireException">The address cannot be reached.</exception>
    internal static async Task<QmpMonitor> ConnectAsync(QmpMonitorOptions options, ILogger? logger = null, CancellationToken cancellationToken = default)
    {
        var monitor = new QmpMonitor(options, logger ?? NullLogger.Instance);
        try
        {
            if (options.Lease)
            {
                await monitor.LeaseAsync(monitor.AskNameAsync, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await monitor.AskNameAsync(await monitor.GetClientAsync(cancellationToken).ConfigureAwait(false), cancellationToken).ConfigureAwait(false);
            }

            return monitor;
        }
        catch
        {
            await monitor.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Runs a command and gives what it returned.</summary>
    /// <exception cref="QmpException">QEMU refused it (<see cref="QmpException.QemuClass"/>), did not answer, or is gone.</exception>
    internal Task<JsonElement> ExecuteAsync(string command, JsonObject? arguments = null, CancellationToken cancellationToken = default)
        => ExecuteAsync(new QmpCommand(command, arguments), null, cancellationToken);

    /// <summary>The same with everything that can be said of a command.</summary>
    internal async Task<JsonElement> ExecuteAsync(QmpCommand command, TimeSpan? timeout, CancellationToken cancellationToken)
        => (await ExecuteAllAsync([command], timeout, cancellationToken).ConfigureAwait(false))[0];

    /// <summary>
    /// Runs commands in their order, one after the other, and gives what they returned. The first that fails ends it.
    /// </summary>
    internal async Task<JsonElement[]> ExecuteAllAsync(IReadOnlyList<QmpCommand> commands, TimeSpan? timeout = null, CancellationToken cancellationToken = default)
    {
        if (Options.ReadOnly && commands.FirstOrDefault(command => !command.IsQuery) is { } forbidden)
        {
            throw new QmpException(QmpError.ReadOnly, $"{Name}: '{forbidden.Name}' can change something, and this monitor was connected for reading only.")
            {
                Section = forbidden.Name,
                Target = Name,
            };
        }

        return await RunAllAsync(commands, timeout, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>
    /// Runs a command that measures and changes nothing of the VM, also on a read-only monitor. Only calc-dirty-rate by page sampling is
    /// one: it reads memory, and takes time of a processor.
    /// </summary>
    internal async Task<JsonElement> MeasureAsync(QmpCommand command, CancellationToken cancellationToken)
    {
        bool onlyReads = command.Name == "calc-dirty-rate" && command.Arguments?["mode"]?.GetValue<string>() == "page-sampling";
        return onlyReads ? (await RunAllAsync([command], null, cancellationToken).ConfigureAwait(false))[0]
            : await ExecuteAsync(command, null, cancellationToken).ConfigureAwait(false);
    }

    private async Task<JsonElement[]> RunAllAsync(IReadOnlyList<QmpCommand> commands, TimeSpan? timeout, CancellationToken cancellationToken)
    {
        if (!Options.Lease)
        {
            var answers = new JsonElement[commands.Count];
            for (int i = 0; i < answers.Length; i++)
            {
                answers[i] = await ExecuteOneAsync(commands[i], timeout, cancellationToken).ConfigureAwait(false);
            }

            return answers;
        }

        var all = new List<JsonElement>(commands.Count);
        foreach (var part in commands.Chunk(MostPerLease))
        {
            all.AddRange(await LeaseAsync(async (client, cancel) =>
            {
                var answers = new JsonElement[part.Length];
                for (int i = 0; i < part.Length; i++)
                {
                    answers[i] = await RunAsync(client, part[i], timeout, cancel).ConfigureAwait(false);
                }

                return answers;
            }, cancellationToken).ConfigureAwait(false));
        }

        return [.. all];
    }

    /// <summary>What this QEMU offers; asked once per version and package.</summary>
    internal async Task<QmpSchema> GetSchemaAsync(CancellationToken cancellationToken = default)
        => QmpSchema.Find(Version)
            ?? QmpSchema.Read(await ExecuteAsync("query-qmp-schema", cancellationToken: cancellationToken).ConfigureAwait(false)).Keep(Version);

    /// <summary>
    /// Waits for an event behind the number <paramref name="after"/> (<see cref="QmpEventLog.Last"/> before the action whose effect is
    /// waited for; 0 for everything that is kept).
    /// </summary>
    /// <exception cref="QmpException"><see cref="QmpError.EventTimeout"/>, <see cref="QmpError.LeaseOnly"/>, or the loss of the
    /// connection, with which events are lost.</exception>
    internal async Task<ReceivedEvent> WaitForEventAsync(Func<ReceivedEvent, bool> isWanted, long after, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        if (Options.Lease)
        {
            throw new QmpException(QmpError.LeaseOnly, $"{Name}: there are no events on a monitor that is connected for each command alone.") { Target = Name };
        }

        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        if (timeout != Timeout.InfiniteTimeSpan)
        {
            limit.CancelAfter(timeout);
        }

        while (true)
        {
            foreach (var received in Events.Since(after, out _))
            {
                after = received.Sequence;
                if (isWanted(received))
                {
                    return received;
                }
            }

            try
            {
                await Events.WaitAsync(after, limit.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                throw new QmpException(QmpError.EventTimeout, $"{Name}: the event did not come within {timeout.TotalSeconds:0.###} s.") { Target = Name };
            }
        }
    }

    /// <summary>Closes the connection. Commands on their way fail.</summary>
    public async ValueTask DisposeAsync()
    {
        _disposed = true;
        await _connecting.WaitAsync().ConfigureAwait(false);
        try
        {
            if (_client is not null)
            {
                await _client.DisposeAsync().ConfigureAwait(false);
            }

            _client = null;
            _process?.Dispose();
            Events.End(new QmpException(QmpError.Disconnected, $"{Name}: the monitor has been disconnected.") { Target = Name });
        }
        finally
        {
            _connecting.Release();
        }
    }

    private async Task<bool> AskNameAsync(QmpClient client, CancellationToken cancellationToken)
    {
        if (!Options.AskName)
        {
            return false;
        }

        foreach (string command in new[] { "query-status", "query-name" })
        {
            try
            {
                var answer = await RunAsync(client, new QmpCommand(command), null, cancellationToken).ConfigureAwait(false);
                VMName = answer.Text("name") ?? VMName;
            }
            catch (QmpException e) when (e.Reason is QmpError.CommandNotFound or QmpError.CommandFailed)
            {
                // Before its configuration is complete (-preconfig) a QEMU answers few questions.
            }
        }

        return true;
    }

    private async Task<JsonElement> ExecuteOneAsync(QmpCommand command, TimeSpan? timeout, CancellationToken cancellationToken)
    {
        var client = await GetClientAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            return await RunAsync(client, command, timeout, cancellationToken).ConfigureAwait(false);
        }
        catch (QmpException e) when (e.Reason == QmpError.ConnectionLost)
        {
            if (await HasExitedAsync().ConfigureAwait(false))
            {
                throw Exited(e, command);
            }

            if (!command.IsQuery)
            {
                throw;
            }
        }

        client = await GetClientAsync(cancellationToken).ConfigureAwait(false);
        return await RunAsync(client, command, timeout, cancellationToken).ConfigureAwait(false);
    }

    private async Task<JsonElement> RunAsync(QmpClient client, QmpCommand command, TimeSpan? timeout, CancellationToken cancellationToken)
    {
        var answer = await client.ExecuteAsync(command, timeout, cancellationToken).ConfigureAwait(false);
        State.Take(command.Name, answer);
        return answer;
    }

    [LoggerMessage(EventId = 66, Level = LogLevel.Information, Message = "{Monitor}: connected to QEMU {Version}")]
    private static partial void LogConnected(ILogger logger, string monitor, QmpVersion version);

    [LoggerMessage(EventId = 67, Level = LogLevel.Warning,
        Message = "{Monitor}: connected again after the connection was lost; events in between are lost. The VM is {RunState}, its migration {Migration}")]
    private static partial void LogReconnected(ILogger logger, string monitor, string? runState, string? migration);
}
