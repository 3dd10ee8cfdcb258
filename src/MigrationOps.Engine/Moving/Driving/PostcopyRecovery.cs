using System.Globalization;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Moving;

/// <summary>Takes a broken postcopy migration up over a new connection. It cancels nothing and ends no process.</summary>
internal static partial class PostcopyRecovery
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(50);

    /// <summary>Recovers, as often as it is allowed, and waits for the end of the migration.</summary>
    /// <param name="source">The side that holds the rest of the memory.</param>
    /// <param name="target">The side that has the guest.</param>
    /// <param name="uri">Where the target listens anew; port 0 for any free one.</param>
    /// <param name="attempts">How often it is tried.</param>
    /// <param name="interval">The time from one attempt to the next.</param>
    /// <param name="patience">How long a step may take.</param>
    /// <param name="logger">Hears of each attempt.</param>
    /// <param name="cancellationToken">Ends the attempts; the migration stays as it is.</param>
    /// <exception cref="MoveException"><see cref="MoveError.NotResumable"/>; <see cref="MoveError.MigrationFailed"/> after the last attempt.</exception>
    internal static async Task RunAsync(QmpMonitor source, QmpMonitor target, string uri, int attempts, TimeSpan interval, TimeSpan patience, ILogger logger, CancellationToken cancellationToken)
    {
        string? last = null;
        for (int attempt = 1; attempt <= attempts; attempt++)
        {
            if (attempt > 1)
            {
                await Task.Delay(interval, cancellationToken).ConfigureAwait(false);
            }

            await PauseBothAsync(source, target, patience, cancellationToken).ConfigureAwait(false);
            try
            {
                string address = await ListenAsync(target, uri, cancellationToken).ConfigureAwait(false);
                LogAttempt(logger, attempt, attempts, address);
                await source.ExecuteAsync("migrate", new JsonObject { ["uri"] = address, ["resume"] = true }, cancellationToken).ConfigureAwait(false);
                var answer = await WaitForEndAsync(source, cancellationToken).ConfigureAwait(false);
                if (answer.Migration == "completed")
                {
                    return;
                }

                last = answer.ToString();
                if (answer.Migration != "postcopy-paused")
                {
                    break;
                }
            }
            catch (QmpException e) when (e.Reason == QmpError.CommandFailed)
            {
                last = e.Message;
            }
        }

        throw new MoveException(MoveError.MigrationFailed, $"{source.Name}: the postcopy migration was not recovered in {attempts} attempts: {last}",
            action: "Mend the connection and resume again. The guest is at the target; end neither side.");
    }

    // One side may not have noticed yet that the connection is broken.
    private static async Task PauseBothAsync(QmpMonitor source, QmpMonitor target, TimeSpan patience, CancellationToken cancellationToken)
    {
        foreach (var monitor in new[] { source, target })
        {
            cancellationToken.ThrowIfCancellationRequested();
            var answer = await SideAnswer.AskAsync(monitor, null, cancellationToken).ConfigureAwait(false);

            // A target of QEMU 10.0 does not say that it is being set up for the recovery.
            if (answer.Migration is "postcopy-active" or "postcopy-recover" or "postcopy-recover-setup" or "postcopy-device" || (monitor == target && answer.Migration is null or "none"))
            {
                await SideControl.IgnoreRefusalAsync(() => monitor.ExecuteAsync(new QmpCommand("migrate-pause", OutOfBand: monitor.OutOfBand), null, cancellationToken)).ConfigureAwait(false);
                answer = await SideControl.WaitAsync(monitor, said => said.Migration == "postcopy-paused", patience).ConfigureAwait(false);
            }

            if (answer.Migration != "postcopy-paused")
            {
                throw new MoveException(MoveError.NotResumable, $"{monitor.Name}: expected a postcopy migration that is paused, found '{answer}'.") { Target = monitor.Name };
            }
        }
    }

    private static async Task<string> ListenAsync(QmpMonitor target, string uri, CancellationToken cancellationToken)
    {
        await target.ExecuteAsync(new QmpCommand("migrate-recover", new JsonObject { ["uri"] = uri }, target.OutOfBand), null, cancellationToken).ConfigureAwait(false);
        if (Endpoint.Parse(uri) is not Endpoint.Tcp { Port: 0 } tcp)
        {
            return uri;
        }

        var status = await target.ExecuteAsync("query-migrate", cancellationToken: cancellationToken).ConfigureAwait(false);
        return status.Items("socket-address").Select(address => address.Text("port")).LastOrDefault(port => port is not null) is { } port
            && int.TryParse(port, CultureInfo.InvariantCulture, out int number) && number != 0
            ? (tcp with { Port = number }).ToString()
            : throw new MoveException(MoveError.NotResumable, $"{target.Name}: QEMU does not say on which port it listens for the recovery.", action: "Give an address with a port of your own.");
    }

    private static async Task<SideAnswer> WaitForEndAsync(QmpMonitor source, CancellationToken cancellationToken)
    {
        while (true)
        {
            var answer = await SideAnswer.AskAsync(source, null, cancellationToken).ConfigureAwait(false);
            if (answer.HasEnded || answer.Migration == "postcopy-paused")
            {
                return answer;
            }

            await Task.Delay(Look, cancellationToken).ConfigureAwait(false);
        }
    }

    [LoggerMessage(EventId = 71, Level = LogLevel.Information, Message = "attempt {Attempt} of {Attempts}: the target listens at {Address}")]
    private static partial void LogAttempt(ILogger logger, int attempt, int attempts, string address);
}
