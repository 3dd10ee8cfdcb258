using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Vfio;

/// <summary>A device node of the kernel, <c>/dev/vfio/devices/vfioN</c>, bound to an I/O address space of its own.</summary>
public sealed class KernelVfioDriver : IVfioDriver
{
    private const string NodeFolder = "/dev/vfio/devices";
    private const string PciFolder = "/sys/bus/pci/devices";
    private const string IommuNode = "/dev/iommu";

    private readonly SafeFileHandle _device;
    private readonly SafeFileHandle _iommu;

    private KernelVfioDriver(string path, SafeFileHandle device, SafeFileHandle iommu)
    {
        Path = path;
        _device = device;
        _iommu = iommu;
    }

    /// <inheritdoc/>
    public string Path { get; }

    /// <summary>The device nodes of this machine.</summary>
    public static IReadOnlyList<string> FindAll()
        => Directory.Exists(NodeFolder) ? [.. Directory.EnumerateFiles(NodeFolder).Order(StringComparer.Ordinal)] : [];

    /// <summary>The device node for what a user may name: the node itself, or a PCI address such as 0000:00:04.0.</summary>
    /// <exception cref="VfioException"><see cref="VfioError.DeviceNotFound"/>.</exception>
    public static string Resolve(string device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (!device.Contains('/', StringComparison.Ordinal))
        {
            string folder = System.IO.Path.Combine(PciFolder, device, "vfio-dev");
            string? name = Directory.Exists(folder) ? Directory.EnumerateDirectories(folder).Select(System.IO.Path.GetFileName).FirstOrDefault() : null;
            return name is not null ? System.IO.Path.Combine(NodeFolder, name)
                : throw NotFound(device, "no PCI device of this address is bound to a vfio driver", null);
        }

        return device;
    }

    /// <summary>Opens a device.</summary>
    /// <param name="path">The device node.</param>
    /// <exception cref="VfioException"><see cref="VfioError.DeviceNotFound"/>.</exception>
    public static KernelVfioDriver Open(string path)
    {
        SafeFileHandle? device = null, iommu = null;
        try
        {
            device = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            iommu = File.OpenHandle(IommuNode, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            return VfioIoctl.BindIommu(device, iommu) >= 0
                ? new KernelVfioDriver(path, device, iommu)
                : throw NotFound(path, $"it cannot be bound to {IommuNode}: {NativeError.Describe(NativeError.Last)}", null);
        }
        catch (Exception e)
        {
            device?.Dispose();
            iommu?.Dispose();
            if (e is IOException or UnauthorizedAccessException)
            {
                throw NotFound(path, e.Message.TrimEnd('.'), e);
            }

            throw;
        }
    }

    /// <inheritdoc/>
    public VfioMigrationFlags? GetFlags()
    {
        ulong flags = 0;
        return VfioIoctl.DeviceFeature(_device, VfioIoctl.FeatureGet | VfioIoctl.FeatureMigration, ref flags) >= 0
            ? (VfioMigrationFlags)flags
            : null;
    }

    /// <inheritdoc/>
    public VfioState GetState()
    {
        ulong data = 0;
        NativeError.Check(VfioIoctl.DeviceFeature(_device, VfioIoctl.FeatureGet | VfioIoctl.FeatureDeviceState, ref data),
            "ioctl(VFIO_DEVICE_FEATURE)", Path);
        return (VfioState)MemoryMarshal.Cast<ulong, uint>(new ReadOnlySpan<ulong>(in data))[0];
    }

    /// <inheritdoc/>
    public int SetState(VfioState state, out SafeFileHandle? data)
    {
        ulong argument = 0;
        var words = MemoryMarshal.Cast<ulong, int>(new Span<ulong>(ref argument));
        words[0] = (int)state;
        words[1] = -1;
        int result = VfioIoctl.DeviceFeature(_device, VfioIoctl.FeatureSet | VfioIoctl.FeatureDeviceState, ref argument);
        int error = result < 0 ? NativeError.Last : 0;
        int fd = MemoryMarshal.Cast<ulong, int>(new ReadOnlySpan<ulong>(in argument))[1];
        data = error == 0 && fd >= 0 ? new SafeFileHandle(fd, true) : null;
        return error;
    }

    /// <inheritdoc/>
    public long? GetStopCopySize()
    {
        ulong size = 0;
        return VfioIoctl.DeviceFeature(_device, VfioIoctl.FeatureGet | VfioIoctl.FeatureDataSize, ref size) >= 0 && size <= long.MaxValue
            ? (long)size
            : null;
    }

    /// <inheritdoc/>
    public int Read(SafeFileHandle data, Span<byte> buffer)
    {
        nint count = FdIo.Read(data, buffer);
        return count >= 0 ? (int)count : -NativeError.Last;
    }

    /// <inheritdoc/>
    public int GetPreCopyInfo(SafeFileHandle data, out PreCopyInfo info)
    {
        int result = VfioIoctl.GetPreCopyInfo(data, out ulong initial, out ulong dirty);
        int error = result < 0 ? NativeError.Last : 0;
        info = new PreCopyInfo((long)Math.Min(initial, long.MaxValue), (long)Math.Min(dirty, long.MaxValue));
        return error;
    }

    /// <inheritdoc/>
    public int ReadConfig(Span<byte> buffer)
    {
        if (VfioIoctl.GetConfigRegion(_device, out ulong size, out ulong offset) < 0 || size == 0)
        {
            return 0;
        }

        int count = (int)Math.Min(size, (ulong)buffer.Length);
        return (int)NativeError.Check(FdIo.ReadAt(_device, buffer[..count], (long)offset), "pread", Path);
    }

    /// <inheritdoc/>
    public int Reset() => VfioIoctl.Reset(_device) < 0 ? NativeError.Last : 0;

    /// <inheritdoc/>
    public void Dispose()
    {
        _device.Dispose();
        _iommu.Dispose();
    }

    private static VfioException NotFound(string path, string why, Exception? inner)
        => new(VfioError.DeviceNotFound, $"'{path}' cannot be used: {why}.", inner) { Target = path };
}
