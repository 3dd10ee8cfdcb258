using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>Gives a driver that outlives the cmdlet that made it the log of the cmdlet that runs it now.</summary>
internal sealed class RelayLogger : ILogger
{
    internal ILogger Target { get; set; } = NullLogger.Instance;

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => Target.BeginScope(state);

    public bool IsEnabled(LogLevel logLevel) => Target.IsEnabled(logLevel);

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        => Target.Log(logLevel, eventId, state, exception, formatter);
}
