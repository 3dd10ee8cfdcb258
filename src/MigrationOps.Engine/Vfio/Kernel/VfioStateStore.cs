using System.Diagnostics;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>How the state of a device lies in a file.</summary>
internal enum VfioStateFormat
{
    /// <summary>A state file with manifest.</summary>
    StateFile,

    /// <summary>The marker stream of a VFIO section, as a main stream without multifd has it.</summary>
    Markers,
}

/// <summary>Saves the state of a VFIO device of this host to a file and loads it again.</summary>
internal static class VfioStateStore
{
    private const string DefaultIdStr = "vfio";
    private const int BufferSize = 1024 * 1024;

    /// <summary>What a loaded state says of its PCI configuration space.</summary>
    internal const string ConfigNotLoaded = "The saved PCI configuration space was compared with the device and not loaded: "
        + "it is the guest's view, which only the guest's VMM can restore.";

    /// <summary>
    /// Saves the state of a device: while it runs, if it has PRE_COPY, and the rest after it was stopped. It stays stopped.
    /// </summary>
    /// <param name="device">The device; stays the caller's.</param>
    /// <param name="path">The file.</param>
    /// <param name="idStr">Name of the device in the file; null for one from its path.</param>
    /// <param name="format">How the state lies in the file.</param>
    /// <param name="scope">Cancellation.</param>
    public static VfioStateTransfer Save(VfioDevice device, string path, string? idStr, VfioStateFormat format, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(device);
        long start = Stopwatch.GetTimestamp();
        idStr ??= NameOf(device);
        var rest = device.RestState;
        try
        {
            var result = format == VfioStateFormat.Markers
                ? SaveMarkers(device, path, idStr, scope, start) : SaveStateFile(device, path, idStr, scope, start);
            return result with { DeviceState = VfioDevice.Name(device.State) };
        }
        catch when (device.State is VfioState.Stop or VfioState.StopCopy && rest != VfioState.Stop)
        {
            // The state was read whole, and the file was not completed.
            device.ReturnTo(rest);
            throw;
        }
    }

    /// <summary>Loads a state into the device, which runs afterwards. The file is verified before the device is touched.</summary>
    /// <param name="device">The device; stays the caller's.</param>
    /// <param name="path">The file.</param>
    /// <param name="format">How the state lies in the file.</param>
    /// <param name="afterwards">The state that the device is left in.</param>
    /// <param name="scope">Cancellation.</param>
    public static VfioStateTransfer Restore(
        VfioDevice device, string path, VfioStateFormat format, VfioState afterwards, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(device);
        long start = Stopwatch.GetTimestamp();
        string found = VfioDevice.Name(device.State);
        bool wasLost = device.IsLost;
        if (format == VfioStateFormat.Markers)
        {
            device.CheckConfig(ReadMarkers(path, new NullSink(), scope).Config);
            using var loaded = new DeviceSink(device, afterwards, scope);
            var (total, saved) = ReadMarkers(path, loaded, scope);
            return Loaded(Result("Restore", NameOf(device), total, saved.Length, loaded.Sha256, path, device, start));
        }

        using var source = new StateFileSource(path, scope);
        device.CheckConfig(source.Config);
        using var sink = new DeviceSink(device, afterwards, scope);
        using var target = new SinkStream(sink);
        byte[] config = source.WriteTo(target);
        sink.Complete(config);
        return Loaded(Result("Restore", source.IdStr, target.Bytes, config.Length, sink.Sha256, path, device, start));

        VfioStateTransfer Loaded(VfioStateTransfer result) => result with
        {
            DeviceState = VfioDevice.Name(device.State),
            Warnings = wasLost ? [$"The device was in {found} and was reset before the load.", .. result.Warnings] : result.Warnings,
        };
    }

    /// <summary>The name of a device's section, from the name of its node.</summary>
    public static string NameOf(VfioDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        return Path.GetFileName(device.Path) is { Length: > 0 } name ? $"{name}/{DefaultIdStr}" : $"device/{DefaultIdStr}";
    }

    private static VfioStateTransfer SaveStateFile(VfioDevice device, string path, string idStr, TransferScope scope, long start)
    {
        using var source = new DeviceSource(device, idStr, scope) { PreCopies = true };
        using var sink = new StateFileSink(path, idStr, 0, scope);
        using var target = new SinkStream(sink);
        byte[] config = source.WriteTo(target);
        sink.Complete(config);
        sink.Commit(device.Path);
        return Result("Save", idStr, target.Bytes, config.Length, source.Sha256, path, device, start) with { PrecopyBytes = source.PrecopyBytes };
    }

    private static VfioStateTransfer SaveMarkers(VfioDevice device, string path, string idStr, TransferScope scope, long start)
    {
        using var file = Storage.AtomicFile.Create(path, scope);
        var writer = new MarkerWriter(file.Stream);
        writer.WriteSetup();
        using var target = new MarkerStream(writer);
        using var source = new DeviceSource(device, idStr, scope)
        {
            PreCopies = true,
            Iterated = completesInitial => writer.Write(completesInitial ? VfioMarker.InitDataSent : VfioMarker.EndOfState),
        };
        byte[] config = source.WriteTo(target);
        writer.Write(VfioMarker.EndOfState);
        writer.WriteConfig(config);
        file.Commit();
        return Result("Save", idStr, target.Bytes, config.Length, source.Sha256, path, device, start) with { PrecopyBytes = source.PrecopyBytes };
    }

    private static (long Bytes, byte[] Config) ReadMarkers(string path, IDeviceStateSink sink, TransferScope scope)
    {
        using var file = Storage.StateFile.OpenRead(path, scope);
        var observer = new SinkObserver(sink);
        var parser = new SectionReader(observer, $"'{path}'");
        byte[] buffer = new byte[BufferSize];
        int held = 0;
        while (true)
        {
            int count = file.Read(buffer.AsSpan(held));
            held += count;
            var reader = parser.Over(buffer.AsSpan(0, held));
            while (parser.Read(ref reader))
            {
                // One section ends, the next one follows.
            }

            reader.Rest.CopyTo(buffer);
            held = reader.Remaining;
            if (count == 0)
            {
                parser.Finish(held);
                return observer.Finish(path);
            }
        }
    }

    private static VfioStateTransfer Result(string direction, string idStr, long bytes, long configBytes, string? hash, string path,
        VfioDevice device, long start)
    {
        var duration = Stopwatch.GetElapsedTime(start);
        TransferMetrics.Record("vfio", direction == "Save" ? "save" : "load", bytes, duration);
        return new()
        {
            IdStr = idStr,
            InstanceId = 0,
            Direction = direction,
            Packets = 0,
            Bytes = bytes,
            ConfigBytes = configBytes,
            Sha256 = hash,
            Path = path,
            Peer = device.Path,
            Duration = duration,
            Warnings = direction == "Restore" && configBytes > ConfigState.MarkerBytes
                ? [ConfigNotLoaded] : [],
        };
    }

    private sealed class SinkObserver(IDeviceStateSink sink) : IDeviceSections
    {
        private long _bytes;
        private byte[]? _config;

        public void Data(SectionKind kind, ReadOnlySpan<byte> data)
        {
            _bytes += data.Length;
            sink.Write(data);
        }

        public void InitialDataSent()
        {
        }

        public void Config(ReadOnlySpan<byte> body) => _config = body.ToArray();

        internal (long Bytes, byte[] Config) Finish(string path)
        {
            byte[] config = _config ?? throw new StreamException(StreamError.MissingConfig, $"'{path}' ends without a config state.") { Target = path };
            sink.Complete(config);
            return (_bytes, config);
        }
    }
}
