using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qmp;

/// <summary>How a QEMU process is started.</summary>
internal sealed record QemuProcessOptions
{
    /// <summary>The QEMU program: a path, or a name in PATH.</summary>
    internal required string Program { get; init; }

    /// <summary>Its arguments. A monitor is added.</summary>
    internal required IReadOnlyList<string> Arguments { get; init; }

    /// <summary>Where its monitor listens; null for a socket in a temporary folder of its own, which only this user may open.</summary>
    internal string? MonitorPath { get; init; }

    /// <summary>How long it may take until its monitor answers, and then its commands.</summary>
    internal QmpTimeouts Timeouts { get; init; } = QmpTimeouts.Default;

    /// <summary>True to let it run on when this process ends or the object is disposed.</summary>
    internal bool OutlivesUs { get; init; }
}

/// <summary>
/// A QEMU that this process started (see <see cref="ChildProcess"/> for how), and its monitor. It ends with this object, and with this
/// process in whatever way that ends.
/// </summary>
internal sealed class QemuProcess : IAsyncDisposable
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(2);
    private static readonly TimeSpan MostForQuit = TimeSpan.FromSeconds(2);

    private readonly QemuProcessOptions _options;
    private readonly ChildProcess _process;
    private readonly ILogger _logger;
    private readonly string? _folder;
    private QmpMonitor? _monitor;

    private QemuProcess(QemuProcessOptions options, ChildProcess process, string monitorPath, string? folder, ILogger logger)
    {
        _options = options;
        _process = process;
        _folder = folder;
        _logger = logger;
        MonitorPath = monitorPath;
    }

    /// <summary>Its process id.</summary>
    internal int Id => _process.Id;

    /// <summary>The last of what it printed.</summary>
    internal string Output => _process.Output;

    /// <summary>Where its monitor listens.</summary>
    internal string MonitorPath { get; }

    /// <summary>Becomes its exit code, or 128 and the number of the signal that killed it.</summary>
    internal Task<int> Exited => _process.Exited;

    /// <summary>Its monitor; connected by <see cref="StartAsync"/> or <see cref="ConnectAsync"/>.</summary>
    internal QmpMonitor Monitor => _monitor ?? throw new InvalidOperationException("The monitor is not connected yet.");

    /// <summary>Starts a QEMU and connects to its monitor.</summary>
    /// <exception cref="QmpException"><see cref="QmpError.StartFailed"/> with QEMU's own words.</exception>
    internal static async Task<QemuProcess> StartAsync(QemuProcessOptions options, ILogger? logger = null, CancellationToken cancellationToken = default)
    {
        var qemu = Launch(options, logger);
        try
        {
            await qemu.ConnectAsync(cancellationToken).ConfigureAwait(false);
            return qemu;
        }
        catch
        {
            await qemu.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Starts a QEMU and does not wait for its monitor: a CPR target has none before its state has come.</summary>
    internal static QemuProcess Launch(QemuProcessOptions options, ILogger? logger = null)
    {
        string? folder = options.MonitorPath is null ? Directory.CreateTempSubdirectory("migrationops-qemu-").FullName : null;
        string path = options.MonitorPath ?? Path.Combine(folder!, "qmp");
        try
        {
            string[] arguments = [.. options.Arguments, "-qmp", $"unix:{path.Replace(",", ",,", StringComparison.Ordinal)},server=on,wait=off"];
            return new QemuProcess(options, ChildProcess.Start(options.Program, arguments, options.OutlivesUs), path, folder, logger ?? NullLogger.Instance);
        }
        catch
        {
            if (folder is not null)
            {
                Directory.Delete(folder, recursive: true);
            }

            throw;
        }
    }

    /// <summary>Waits until the monitor listens, and connects to it.</summary>
    /// <exception cref="QmpException"><see cref="QmpError.StartFailed"/> if the process ended before; the reason why it cannot be
    /// connected to.</exception>
    internal async Task<QmpMonitor> ConnectAsync(CancellationToken cancellationToken = default)
    {
        if (_monitor is not null)
        {
            await _monitor.DisposeAsync().ConfigureAwait(false);
            _monitor = null;
        }

        var options = new QmpMonitorOptions { Endpoint = new Endpoint.Unix(MonitorPath), Timeouts = _options.Timeouts };
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        if (_options.Timeouts.Command != Timeout.InfiniteTimeSpan)
        {
            limit.CancelAfter(_options.Timeouts.Command);
        }

        try
        {
            while (true)
            {
                try
                {
                    return _monitor = await QmpMonitor.ConnectAsync(options, _logger, limit.Token).ConfigureAwait(false);
                }
                catch (WireException e) when (e.Reason is WireError.NotFound or WireError.ConnectFailed && !Exited.IsCompleted)
                {
                    // It does not listen yet. Nothing announces that it does; its end would be announced.
                    await Task.WhenAny(Exited, Task.Delay(Look, limit.Token)).ConfigureAwait(false);
                    limit.Token.ThrowIfCancellationRequested();
                }
                catch (MigrationOpsException e) when (Exited.IsCompleted || e is QmpException { Reason: QmpError.QemuExited or QmpError.ConnectionLost })
                {
                    int code = await Exited.WaitAsync(limit.Token).ConfigureAwait(false);
                    throw Failure($"ended with exit code {code} before its monitor answered", e);
                }
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw Failure($"has no monitor within {_options.Timeouts.Command.TotalSeconds:0.###} s", null);
        }
    }

    /// <summary>Kills it at once.</summary>
    internal void Kill() => _process.Kill();

    /// <summary>Ends it, unless it outlives us: by 'quit' if it answers, else by force. Removes its temporary folder.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_monitor is not null)
        {
            if (!_options.OutlivesUs && _monitor.IsConnected && !Exited.IsCompleted)
            {
                await TryQuitAsync(_monitor).ConfigureAwait(false);
            }

            await _monitor.DisposeAsync().ConfigureAwait(false);
        }

        _process.Dispose();
        if (_folder is not null && !_options.OutlivesUs)
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    private async Task TryQuitAsync(QmpMonitor monitor)
    {
        try
        {
            await monitor.ExecuteAsync(new QmpCommand("quit"), MostForQuit, CancellationToken.None).WaitAsync(MostForQuit).ConfigureAwait(false);
            await Exited.WaitAsync(MostForQuit).ConfigureAwait(false);
        }
        catch (Exception e) when (e is QmpException or TimeoutException)
        {
            // It is killed instead.
        }
    }

    private QmpException Failure(string what, Exception? cause)
    {
        string output = Output.Trim();
        return new QmpException(QmpError.StartFailed, $"{_options.Program} {what}{(output.Length == 0 ? "." : $": {Last(output)}")}", cause) { Target = _options.Program };
    }

    private static string Last(string output) => output.Length <= 2000 ? output : "..." + output[^2000..];
}
