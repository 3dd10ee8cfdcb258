using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Qmp;

/// <summary>A scripted monitor in a folder of its own, and a session with it.</summary>
internal sealed class MonitorLab : IAsyncDisposable
{
    private readonly TestFolder _folder = new();
    private readonly List<QmpMonitor> _monitors = [];

    internal MonitorLab(Func<QmpServerCommand, QmpServerAnswer?>? answer = null, Func<QmpServerOptions, QmpServerOptions>? change = null)
    {
        var options = new QmpServerOptions
        {
            Endpoint = new Endpoint.Unix(SocketPath),
            Answer = command => ValueTask.FromResult(answer?.Invoke(command) ?? Usual(command)),
        };
        Server = QmpServer.Start(change is null ? options : change(options));
    }

    internal string SocketPath => _folder["m.sock"];

    internal QmpServer Server { get; }

    internal async Task<QmpMonitor> ConnectAsync(TimeSpan? timeout = null, Func<QmpMonitorOptions, QmpMonitorOptions>? change = null)
    {
        var options = new QmpMonitorOptions { Endpoint = Server.Endpoint, Timeouts = QmpTimeouts.Of(timeout ?? TimeSpan.FromSeconds(30)) };
        var monitor = await QmpMonitor.ConnectAsync(change is null ? options : change(options));
        _monitors.Add(monitor);
        return monitor;
    }

    internal static QmpServerAnswer? Usual(QmpServerCommand command) => command.Name switch
    {
        "query-status" => QmpServerAnswer.Json("""{"status": "running", "running": true}"""),
        "query-migrate" => new QmpServerAnswer.Return(),
        "query-yank" => new QmpServerAnswer.Return(new JsonArray()),
        "stop" or "cont" => new QmpServerAnswer.Return(),
        _ => null,
    };

    public async ValueTask DisposeAsync()
    {
        foreach (var monitor in _monitors)
        {
            await monitor.DisposeAsync();
        }

        await Server.DisposeAsync();
        _folder.Dispose();
    }
}
