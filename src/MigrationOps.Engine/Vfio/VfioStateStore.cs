using System.Diagnostics;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>How the state of a device lies in a file.</summary>
public enum VfioStateFormat
{
    /// <summary>A state file with manifest.</summary>
    StateFile,

    /// <summary>The marker stream of a VFIO section, as a main stream without multifd has it.</summary>
    Markers,
}

/// <summary>Saves the state of a VFIO device of this host to a file and loads it again.</summary>
public static class VfioStateStore
{
    private const string DefaultIdStr = "vfio";
    private const int BufferSize = 1024 * 1024;

    /// <summary>Stops the device and saves its state. The device stays stopped.</summary>
    /// <param name="device">The device; stays the caller's.</param>
    /// <param name="path">The file.</param>
    /// <param name="idStr">Name of the device in the file; null for one from its path.</param>
    /// <param name="format">How the state lies in the file.</param>
    /// <param name="scope">Cancellation.</param>
    public static VfioStateTransfer Save(VfioDevice device, string path, string? idStr, VfioStateFormat format, IoScope scope)
    {
        ArgumentNullException.ThrowIfNull(device);
        long start = Stopwatch.GetTimestamp();
        idStr ??= NameOf(device);
        using var source = new DeviceSource(device, idStr, scope);
        long bytes, configBytes;
        if (format == VfioStateFormat.Markers)
        {
            (bytes, configBytes) = SaveMarkers(source, path, scope);
        }
        else
        {
            using var sink = new StateFileSink(path, idStr, 0, scope);
            using var target = new SinkStream(sink);
            byte[] config = source.WriteTo(target);
            sink.Complete(config);
            sink.Commit(device.Path);
            (bytes, configBytes) = (target.Bytes, config.Length);
        }

        return Result("Save", source.IdStr, bytes, configBytes, source.Sha256, path, device, start);
    }

    /// <summary>Loads a state into the device, which runs afterwards. The file is verified before the device is touched.</summary>
    /// <param name="device">The device; stays the caller's.</param>
    /// <param name="path">The file.</param>
    /// <param name="format">How the state lies in the file.</param>
    /// <param name="afterwards">The state that the device is left in.</param>
    /// <param name="scope">Cancellation.</param>
    public static VfioStateTransfer Restore(
        VfioDevice device, string path, VfioStateFormat format, VfioState afterwards, IoScope scope)
    {
        ArgumentNullException.ThrowIfNull(device);
        long start = Stopwatch.GetTimestamp();
        if (format == VfioStateFormat.Markers)
        {
            ReadMarkers(path, new NullSink(), scope);
            using var loaded = new DeviceSink(device, afterwards, scope);
            var (total, configLength) = ReadMarkers(path, loaded, scope);
            return Result("Restore", NameOf(device), total, configLength, loaded.Sha256, path, device, start);
        }

        using var source = new StateFileSource(path, scope);
        using var sink = new DeviceSink(device, afterwards, scope);
        using var target = new SinkStream(sink);
        byte[] config = source.WriteTo(target);
        sink.Complete(config);
        return Result("Restore", source.IdStr, target.Bytes, config.Length, sink.Sha256, path, device, start);
    }

    /// <summary>The name of a device's section, from the name of its node.</summary>
    public static string NameOf(VfioDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        return Path.GetFileName(device.Path) is { Length: > 0 } name ? $"{name}/{DefaultIdStr}" : $"device/{DefaultIdStr}";
    }

    private static (long Bytes, long ConfigBytes) SaveMarkers(DeviceSource source, string path, IoScope scope)
    {
        using var file = Storage.AtomicFile.Create(path, scope);
        var writer = new MarkerWriter(file.Stream);
        writer.WriteSetup();
        using var target = new MarkerStream(writer);
        byte[] config = source.WriteTo(target);
        writer.Write(VfioMarker.EndOfState);
        writer.WriteConfig(config);
        file.Commit();
        return (target.Bytes, config.Length);
    }

    private static (long Bytes, long ConfigBytes) ReadMarkers(string path, IDeviceStateSink sink, IoScope scope)
    {
        using var file = Storage.StateFile.OpenRead(path, scope);
        var observer = new SinkObserver(sink);
        var parser = new MarkerParser(observer, $"'{path}'");
        byte[] buffer = new byte[BufferSize + ConfigState.Limit];
        int held = 0;
        while (true)
        {
            int count = file.Read(buffer.AsSpan(held, Math.Min(BufferSize, buffer.Length - held)));
            held += count;
            int used = 0, step;
            while (used < held && (step = parser.Parse(buffer.AsSpan(used, held - used), out _)) > 0)
            {
                used += step;
            }

            buffer.AsSpan(used, held - used).CopyTo(buffer);
            held -= used;
            if (count == 0)
            {
                parser.Finish(held);
                return observer.Finish(path);
            }
        }
    }

    private static VfioStateTransfer Result(string direction, string idStr, long bytes, long configBytes, string? hash, string path,
        VfioDevice device, long start) => new()
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
            Duration = Stopwatch.GetElapsedTime(start),
            Warnings = direction == "Restore" && configBytes > ConfigState.MarkerBytes
                ? ["The PCI configuration space was not loaded: only the VMM of the guest can do that."] : [],
        };

    private sealed class SinkObserver(IDeviceStateSink sink) : IMarkerObserver
    {
        private long _bytes;
        private byte[]? _config;

        public void Data(Multifd.SectionKind kind, ReadOnlySpan<byte> data)
        {
            _bytes += data.Length;
            sink.Write(data);
        }

        public void InitialDataSent()
        {
        }

        public void Config(ReadOnlySpan<byte> body) => _config = body.ToArray();

        internal (long Bytes, long ConfigBytes) Finish(string path)
        {
            byte[] config = _config ?? throw new VfioException(VfioError.MissingConfig, $"'{path}' ends without a config state.") { Target = path };
            sink.Complete(config);
            return (_bytes, config.Length);
        }
    }
}
