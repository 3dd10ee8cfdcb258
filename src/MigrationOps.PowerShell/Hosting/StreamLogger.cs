using Microsoft.Extensions.Logging;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>The engine's log as PowerShell streams: information is Verbose, debug and trace are Debug, warnings are warnings.</summary>
internal sealed class StreamLogger(
    Action<Action> post, Action<string> verbose, Action<string> debug, Action<string> warning, JsonLinesLog.Logger? file) : ILogger
{
    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => logLevel != LogLevel.None;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        file?.Log(logLevel, eventId, state, exception, formatter);
        if (file?.TakeFailure() is { } failure)
        {
            post(() => warning(failure));
        }

        string text = formatter(state, exception);
        post(() => (logLevel switch
        {
            LogLevel.Information => verbose,
            LogLevel.Trace or LogLevel.Debug => debug,
            _ => warning,
        })(text));
    }
}
