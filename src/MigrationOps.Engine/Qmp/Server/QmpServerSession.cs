using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading.Channels;

namespace MigrationOps.Engine.Qmp;

/// <summary>One client of a scripted monitor.</summary>
[System.Diagnostics.CodeAnalysis.SuppressMessage("Design", "CA1001", Justification = "The semaphore's wait handle is never used, so there is nothing to dispose.")]
internal sealed class QmpServerSession(QmpServerOptions options, Socket socket, Action<QmpServerCommand> record)
{
    private readonly SemaphoreSlim _sending = new(1);
    private readonly Channel<QmpServerCommand> _inBand = Channel.CreateUnbounded<QmpServerCommand>();
    private volatile bool _hasNegotiated;

    internal bool HasNegotiated => _hasNegotiated;

    internal void Close() => socket.Dispose();

    /// <summary>Serves until the client has gone.</summary>
    internal async Task RunAsync()
    {
        var worker = WorkAsync();
        try
        {
            await SendAsync(options.Greeting ?? Greeting()).ConfigureAwait(false);
            await ReadAsync().ConfigureAwait(false);
        }
        finally
        {
            socket.Dispose();
            _inBand.Writer.TryComplete();
            await worker.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    internal async ValueTask SendAsync(ReadOnlyMemory<byte> data)
    {
        await _sending.WaitAsync().ConfigureAwait(false);
        try
        {
            while (!data.IsEmpty)
            {
                data = data[await socket.SendAsync(data, SocketFlags.None).ConfigureAwait(false)..];
            }
        }
        finally
        {
            _sending.Release();
        }
    }

    private async Task ReadAsync()
    {
        var arrived = new Queue<JsonElement>();
        var walker = new JsonObjectWalker(arrived.Enqueue);
        byte[] buffer = new byte[4096];
        int count;
        while ((count = await socket.ReceiveAsync(buffer, SocketFlags.None).ConfigureAwait(false)) > 0)
        {
            QmpException? failure = null;
            try
            {
                walker.Feed(buffer.AsSpan(0, count), last: false);
            }
            catch (QmpException e)
            {
                failure = e;
            }

            while (arrived.TryDequeue(out var message))
            {
                await TakeAsync(message).ConfigureAwait(false);
            }

            if (failure is not null)
            {
                await SendAsync(Error(default, "GenericError", "JSON parse error, " + failure.Message)).ConfigureAwait(false);
                return;
            }
        }
    }

    private async Task TakeAsync(JsonElement message)
    {
        bool outOfBand = message.Text("execute") is null;
        var command = new QmpServerCommand(message.Text("execute") ?? message.Text("exec-oob") ?? "",
            message.Member("arguments") ?? default, outOfBand, message.Member("id") ?? default);
        record(command);
        if (outOfBand)
        {
            await AnswerAsync(command).ConfigureAwait(false);
        }
        else
        {
            _inBand.Writer.TryWrite(command);
        }
    }

    private async Task WorkAsync()
    {
        await foreach (var command in _inBand.Reader.ReadAllAsync().ConfigureAwait(false))
        {
            await AnswerAsync(command).ConfigureAwait(false);
        }
    }

    private async Task AnswerAsync(QmpServerCommand command)
    {
        var answer = command.Name == "qmp_capabilities" ? Negotiate()
            : _hasNegotiated ? await options.Answer(command).ConfigureAwait(false) ?? NotFound($"The command {command.Name} has not been found")
            : NotFound($"Expecting capabilities negotiation with 'qmp_capabilities'");
        switch (answer)
        {
            case QmpServerAnswer.Return value:
                await SendAsync(Message("return", value.Value?.DeepClone() ?? new JsonObject(), command.Id)).ConfigureAwait(false);
                break;
            case QmpServerAnswer.Error error:
                await SendAsync(Error(error.WithId ? command.Id : default, error.Class, error.Description)).ConfigureAwait(false);
                break;
            case QmpServerAnswer.Raw raw:
                string id = command.Id.ValueKind == JsonValueKind.Undefined ? "null" : command.Id.GetRawText();
                await SendAsync(Encoding.UTF8.GetBytes(raw.Text.Replace("$id", id, StringComparison.Ordinal))).ConfigureAwait(false);
                break;
            case QmpServerAnswer.Hangup:
                Close();
                break;
        }
    }

    private QmpServerAnswer Negotiate()
    {
        if (options.Negotiation is not null)
        {
            return options.Negotiation;
        }

        if (_hasNegotiated)
        {
            return NotFound("Capabilities negotiation is already complete, command ignored");
        }

        _hasNegotiated = true;
        return new QmpServerAnswer.Return();
    }

    private static QmpServerAnswer.Error NotFound(string description) => new(description, "CommandNotFound");

    private byte[] Greeting()
    {
        var qemu = new JsonObject { ["micro"] = options.Version.Micro, ["minor"] = options.Version.Minor, ["major"] = options.Version.Major };
        var version = new JsonObject { ["qemu"] = qemu, ["package"] = options.Version.Package };
        var capabilities = new JsonArray([.. options.Capabilities.Select(name => JsonValue.Create(name))]);
        return Encode(new JsonObject { ["QMP"] = new JsonObject { ["version"] = version, ["capabilities"] = capabilities } });
    }

    private static byte[] Error(JsonElement id, string kind, string description)
        => Message("error", new JsonObject { ["class"] = kind, ["desc"] = description }, id);

    private static byte[] Message(string member, JsonNode value, JsonElement id)
    {
        var message = new JsonObject { [member] = value };
        if (id.ValueKind != JsonValueKind.Undefined)
        {
            message["id"] = JsonNode.Parse(id.GetRawText());
        }

        return Encode(message);
    }

    private static byte[] Encode(JsonObject message) => Encoding.UTF8.GetBytes(message.ToJsonString() + "\r\n");
}
