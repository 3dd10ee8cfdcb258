using System.Text.Json;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Storage;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// The file of -LogPath: one JSON object a line, appended. When it cannot be written any more, the operation continues without
/// it: a full disk for logs is no reason to lose a transfer.
/// </summary>
internal sealed class JsonLinesLog(string path) : IDisposable
{
    private readonly AppendFile _file = new(path);
    private volatile bool _broken;
    private string? _failure;

    internal Logger For(string command) => new(this, command);

    public void Dispose() => _file.Dispose();

    private void Append(byte[] line)
    {
        try
        {
            _file.Append(line);
        }
        catch (ObjectDisposedException)
        {
            // A connection that outlives its cmdlet may have had a last word to say.
            _broken = true;
        }
        catch (IOException e)
        {
            _broken = true;
            Interlocked.Exchange(ref _failure, $"The log ends here, the operation continues: {e.Message}");
        }
    }

    internal sealed class Logger(JsonLinesLog log, string category) : ILogger
    {
        /// <summary>What the user has to know about the log itself; told once.</summary>
        internal string? TakeFailure() => Interlocked.Exchange(ref log._failure, null);

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel != LogLevel.None && !log._broken;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (log._broken)
            {
                return;
            }

            byte[] line = JsonSerializer.SerializeToUtf8Bytes(new
            {
                time = DateTimeOffset.UtcNow,
                level = logLevel.ToString(),
                command = category,
                message = formatter(state, exception),
                error = exception?.Message,
            });
            log.Append([.. line, (byte)'\n']);
        }
    }
}
