using System.Diagnostics;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>Receives a migration from a source and keeps the state of its VFIO devices, the whole of it, or both.</summary>
internal static partial class VfioStateReceiver
{
    /// <summary>Receives one migration. Files and archive appear only when all of it has been received and checked.</summary>
    /// <param name="options">What to receive, and where it goes.</param>
    /// <param name="logger">Hears of the stages.</param>
    /// <param name="scope">The bounds of the whole transfer. What ends it leaves nothing behind.</param>
    /// <returns>One result per device.</returns>
    public static IReadOnlyList<VfioStateTransfer> Receive(
        VfioReceiveOptions options, ILogger logger, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(scope);
        CheckDestination(options);
        using var archive = options.Archive is null ? null : new ArchiveWriter(options.Archive);
        using var listener = Transport.Listen(options.Endpoint, options.Security, scope);
        string source = listener.Endpoint.ToString();
        LogListening(logger, source);
        options.Listening?.Invoke(listener.Endpoint);
        long start = Stopwatch.GetTimestamp();

        var sinks = new SinkFactory(options, scope);
        using var devices = new DeviceStateReceiver(new ReassemblyOptions
        {
            MemoryBudget = options.MemoryBudget,
            SpillDirectory = options.Destination ?? Path.GetDirectoryName(Path.GetFullPath(options.Archive ?? "./x"))!,
        }, sinks.Open, scope.CancellationToken)
        { CheckDevices = names => CheckDevices(options, names) };
        var summary = MigrationReceiver.Receive(
            listener, options.Receive with { SourceWaits = options.Receive.SourceWaits ?? (() => LogSourceWaits(logger, source)) }, devices, archive, scope);
        foreach (string warning in summary.Warnings)
        {
            LogWarning(logger, source, warning);
        }

        var results = devices.Devices;
        foreach (var (_, sink) in results)
        {
            (sink as StateFileSink)?.Commit(source);
        }

        archive?.Commit(summary, results.Select(r => ArchivedDeviceOf(r.Summary)), source);
        TransferMetrics.Record("vfio-multifd", "receive", results.Sum(r => r.Summary.Bytes), Stopwatch.GetElapsedTime(start));
        LogReceived(logger, source, summary.Channels.Count, scope.Moved);
        return [.. results.Select(r => ToResult(r.Summary, r.Sink, source, options, summary.Warnings))];
    }

    internal static ArchivedDevice ArchivedDeviceOf(DeviceSummary device)
        => new(device.IdStr, device.InstanceId, device.Packets, device.Bytes, device.ConfigBytes);

    private static VfioStateTransfer ToResult(
        DeviceSummary device, IDeviceStateSink sink, string source, VfioReceiveOptions options, IReadOnlyList<string> warnings) => new()
        {
            IdStr = device.IdStr,
            InstanceId = device.InstanceId,
            Direction = "Receive",
            Packets = device.Packets,
            Bytes = device.Bytes,
            PrecopyBytes = device.PrecopyBytes,
            OutOfOrder = device.OutOfOrder,
            MaxQueuedBytes = device.MaxQueuedBytes,
            SpilledBytes = device.SpilledBytes,
            ConfigBytes = device.ConfigBytes,
            Sha256 = (sink as StateFileSink)?.Sha256 ?? (sink as DeviceSink)?.Sha256 ?? (sink as HashSink)?.Sha256,
            Path = (sink as StateFileSink)?.Path ?? (sink is DeviceSink ? options.Device!.Path : null),
            Peer = source,
            Archive = options.Archive,
            Duration = device.Duration,
            Warnings = sink is DeviceSink && device.ConfigBytes > ConfigState.MarkerBytes
                ? [.. device.Warnings, VfioStateStore.ConfigNotLoaded, .. warnings] : [.. device.Warnings, .. warnings],
        };

    private static void CheckDestination(VfioReceiveOptions options)
    {
        if (options is { Destination: null, Archive: null, Device: null })
        {
            throw new VfioException(VfioError.NoDestination,
                "Nothing that is received would be kept, and the source gives its guest up when it is told that all has arrived.");
        }

        if (options is { IdStr: not null, Device: null })
        {
            throw new VfioException(VfioError.NoDestination,
                $"The state of '{options.IdStr}' is asked for, and no device is given that takes it.",
                action: "Give a device together with the name of its section, or leave the name out.");
        }

        if (options.Destination is { } folder && !Directory.Exists(folder))
        {
            throw new WireException(WireError.NotFound, $"The folder '{folder}' does not exist.",
                action: "Create the folder, or give another one.")
            { Target = folder };
        }
    }

    // Before the source is told: it would give up a guest of which nothing is kept.
    private static void CheckDevices(VfioReceiveOptions options, IReadOnlyList<string> names)
    {
        string has = names.Count == 0 ? "it has no VFIO device" : $"it has {string.Join(", ", names.Select(n => $"'{n}'"))}";
        if (options is { Device: not null, IdStr: { } wanted } && !names.Contains(wanted))
        {
            throw new VfioException(VfioError.DeviceNotInMigration,
                $"Expected '{wanted}' in the migration; {has}. Nothing was loaded into '{options.Device.Path}'.")
            { Section = wanted };
        }

        if (names.Count == 0 && (options.Device is not null || options.Archive is null))
        {
            throw new VfioException(VfioError.DeviceNotInMigration,
                $"Expected the state of a VFIO device in the migration; {has}, and no archive is to keep the rest.");
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Listening for a migration on {Endpoint}")]
    private static partial void LogListening(ILogger logger, string endpoint);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Endpoint}: received a migration over {Channels} channels, {Bytes} bytes")]
    private static partial void LogReceived(ILogger logger, string endpoint, int channels, long bytes);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Endpoint}: the source goes round without anything to send. With the capability switchover-ack it waits for an acknowledgement, and this receipt gives none: end it, and receive again with SwitchoverAck.")]
    private static partial void LogSourceWaits(ILogger logger, string endpoint);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Endpoint}: {Warning}")]
    private static partial void LogWarning(ILogger logger, string endpoint, string warning);

    private sealed class SinkFactory(VfioReceiveOptions options, TransferScope scope)
    {
        private readonly DeviceFileNames _names = new(options.Destination ?? "");
        private string? _loaded;

        internal IDeviceStateSink Open(string idStr, uint instanceId)
        {
            if (options.Device is { } device && (options.IdStr is null || options.IdStr == idStr))
            {
                if (_loaded is not null)
                {
                    throw new VfioException(VfioError.TooManyDevices,
                        $"The migration has '{_loaded}' and '{idStr}', and there is one device to load.",
                        action: "Name the section that is to be loaded.");
                }

                _loaded = idStr;
                return new DeviceSink(device, VfioState.Running, scope);
            }

            return options.Destination is null ? new HashSink() : new StateFileSink(_names.PathFor(idStr, instanceId), idStr, instanceId, scope);
        }
    }
}
