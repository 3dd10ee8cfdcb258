using System.Collections.Concurrent;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// A scripted monitor: the server's side of QMP, for rehearsals and tests, as the embedded back-end is for vhost-user. It
/// serves one client at a time, as QEMU does: another one's connection is accepted when the first has gone.
/// </summary>
internal sealed class QmpServer : IAsyncDisposable
{
    private readonly QmpServerOptions _options;
    private readonly Socket _listener;
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentQueue<QmpServerCommand> _commands = new();
    private readonly Task _serving;
    private QmpServerSession? _session;
    private int _connections;

    private QmpServer(QmpServerOptions options)
    {
        _options = options;
        _listener = Transport.OpenListener(options.Endpoint, TransportSecurity.Default);
        Endpoint = options.Endpoint is Endpoint.Tcp tcp ? tcp with { Port = ((System.Net.IPEndPoint)_listener.LocalEndPoint!).Port } : options.Endpoint;
        _serving = Task.Run(ServeAsync);
    }

    /// <summary>Where it listens; with port 0 the port that the system chose.</summary>
    internal Endpoint Endpoint { get; }

    /// <summary>The commands that came, over all connections, in their order.</summary>
    internal IReadOnlyCollection<QmpServerCommand> Commands => _commands;

    /// <summary>How many connections were accepted.</summary>
    internal int Connections => Volatile.Read(ref _connections);

    /// <summary>Starts to listen.</summary>
    internal static QmpServer Start(QmpServerOptions options) => new(options);

    /// <summary>
    /// Starts one on a UNIX socket that answers from a table: JSON is what a command returns; a text after <c>error:</c> is a
    /// failure; <c>nothing</c> is no answer; <c>hangup</c> closes the connection.
    /// </summary>
    internal static QmpServer StartTable(string path, IReadOnlyDictionary<string, string> answers) => Start(new QmpServerOptions
    {
        Endpoint = new Endpoint.Unix(path),
        Version = VersionOf(answers),
        Answer = command => ValueTask.FromResult(answers.GetValueOrDefault(command.Name) switch
        {
            null => null,
            "nothing" => new QmpServerAnswer.Nothing(),
            "hangup" => new QmpServerAnswer.Hangup(),
            var text when text.StartsWith("error:", StringComparison.Ordinal) => new QmpServerAnswer.Error(text["error:".Length..].Trim()),
            var json => (QmpServerAnswer?)QmpServerAnswer.Json(json),
        }),
    });

    // A client keeps schemas by version and package, so one with a schema of its own is a build of its own.
    private static QmpVersion VersionOf(IReadOnlyDictionary<string, string> answers)
        => answers.TryGetValue("query-qmp-schema", out string? schema)
            ? QmpServerOptions.UsualVersion with { Package = $"scripted {Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(schema)), 0, 4)}" }
            : QmpServerOptions.UsualVersion;

    /// <summary>Sends an event to the client that is connected and has negotiated; without one it is lost, as QEMU's are.</summary>
    internal ValueTask SendEventAsync(string name, JsonNode? data = null)
    {
        var now = DateTimeOffset.UtcNow;
        var message = new JsonObject
        {
            ["timestamp"] = new JsonObject { ["seconds"] = now.ToUnixTimeSeconds(), ["microseconds"] = now.Microsecond + (now.Millisecond * 1000) },
            ["event"] = name,
        };
        if (data is not null)
        {
            message["data"] = data;
        }

        return _session is { HasNegotiated: true } session ? session.SendAsync(Encoding.UTF8.GetBytes(message.ToJsonString() + "\r\n")) : default;
    }

    /// <summary>The same with the data as JSON text.</summary>
    internal ValueTask SendEventTextAsync(string name, string data) => SendEventAsync(name, data.Length == 0 ? null : JsonNode.Parse(data));

    /// <summary>Sends bytes as they are to the client that is connected.</summary>
    internal ValueTask SendRawAsync(ReadOnlyMemory<byte> bytes) => _session?.SendAsync(bytes) ?? default;

    /// <summary>Closes the connection of the client that is connected; the next one is served.</summary>
    internal void Hangup() => _session?.Close();

    /// <summary>Stops listening, closes the connection and removes the socket file.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_stop.IsCancellationRequested)
        {
            return;
        }

        await _stop.CancelAsync().ConfigureAwait(false);
        _session?.Close();
        _listener.Dispose();
        await _serving.ConfigureAwait(false);
        if (_options.Endpoint is Endpoint.Unix { Path: not ['@', ..] and var path })
        {
            File.Delete(path);
        }

        _stop.Dispose();
    }

    private async Task ServeAsync()
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                var socket = await _listener.AcceptAsync(_stop.Token).ConfigureAwait(false);
                Interlocked.Increment(ref _connections);
                var session = new QmpServerSession(_options, socket, _commands.Enqueue);
                _session = session;
                // A stop that came in between has not seen this session.
                if (_stop.IsCancellationRequested)
                {
                    session.Close();
                }

                await session.RunAsync().ConfigureAwait(false);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
            {
                // The client has gone, or we stop.
            }
            finally
            {
                _session = null;
            }
        }
    }
}
