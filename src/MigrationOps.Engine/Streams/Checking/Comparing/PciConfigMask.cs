using System.Buffers.Binary;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Which bits of a device's PCI configuration QEMU compares when it loads: those that say what the device is and which
/// the guest cannot write (get_pci_config_device in hw/pci/pci.c). The destination's own capabilities decide.
/// </summary>
internal sealed class PciConfigMask
{
    internal const int LegacyLength = 256;

    internal const string TableSize = "MSI-X table size";
    internal const string CapabilityId = "capability id";

    private const int HeaderLength = 0x40;
    private const int FirstExtended = 0x100;
    private const byte Bridge = 1;
    private const byte Whole = 0xff;
    private const byte InternalError = 0x40;

    private readonly byte[] _config;
    private readonly byte[] _mask;
    private readonly string?[] _names;
    private readonly List<int> _starts = [];

    private PciConfigMask(byte[] config) => (_config, _mask, _names) = (config, new byte[config.Length], new string?[config.Length]);

    /// <summary>The bits of a byte that must be equal.</summary>
    internal byte this[int offset] => _mask[offset];

    /// <summary>What a byte is, as the PCI specification calls it.</summary>
    internal string NameOf(int offset) => _names[offset] ?? (offset < HeaderLength ? HeaderName(offset) : CapabilityName(offset));

    private static string HeaderName(int offset) => offset switch
    {
        0x04 or 0x05 => "command",
        0x06 or 0x07 => "status",
        0x0c => "cache line size",
        0x0d => "latency timer",
        0x0f => "self test",
        >= 0x10 and < 0x28 => $"base address or bridge window (register 0x{offset & ~3:x})",
        0x2c or 0x2d => "subsystem vendor id",
        0x2e or 0x2f => "subsystem id",
        >= 0x30 and < 0x34 => "expansion ROM's address",
        0x3c => "interrupt line",
        0x3d => "interrupt pin",
        _ => "header",
    };

    // The capability that begins last before this byte.
    private string CapabilityName(int offset)
    {
        int at = _starts.Where(s => s <= offset).DefaultIfEmpty(-1).Max();
        string name = at < 0 ? "" : at >= FirstExtended ? "an extended capability" : _config[at] switch
        {
            0x01 => "power management",
            0x05 => "MSI: address, data, enable",
            0x09 => "a vendor's capability",
            0x0c => "hot-plug controller",
            0x10 => "PCI Express: control and status",
            0x11 => "MSI-X: enable",
            _ => "a capability",
        };
        return name.Length == 0 ? "the device's own register" : name;
    }

    /// <summary>The mask of a device with this configuration.</summary>
    /// <param name="config">256 bytes, or 4096 of an Express device.</param>
    internal static PciConfigMask Of(byte[] config)
    {
        var mask = new PciConfigMask(config);
        mask.AddHeader();
        mask.AddCapabilities();
        if (config.Length > LegacyLength)
        {
            mask.AddExtendedCapabilities();
        }

        return mask;
    }

    private int Word(int offset) => BinaryPrimitives.ReadUInt16LittleEndian(_config.AsSpan(offset));

    private void Check(int offset, int length, byte bits, string name)
    {
        for (int i = offset; i < offset + length && i < _mask.Length; i++)
        {
            _mask[i] = bits;
            _names[i] = name;
        }
    }

    private void AddHeader()
    {
        Check(0x00, 2, Whole, "vendor id");
        Check(0x02, 2, Whole, "device id");
        Check(0x06, 1, 0x10, "status: has a capability list");
        Check(0x08, 1, Whole, "revision");
        Check(0x09, 3, Whole, "class");
        Check(0x0e, 1, Whole, "header type");
        Check(0x34, 1, Whole, "capability list");
        bool isBridge = (_config[0x0e] & 0x7f) == Bridge;
        AddBars(0x10, isBridge ? 2 : 6, "BAR");
        if (isBridge)
        {
            Check(0x1c, 2, 0x0f, "width of the I/O window");
            Check(0x24, 1, 0x0f, "width of the prefetchable window");
            Check(0x26, 1, 0x0f, "width of the prefetchable window");
        }
    }

    // Of a 32-bit memory BAR that is not prefetchable no bit is set, so that it looks like no BAR.
    private void AddBars(int offset, int count, string name)
    {
        for (int i = 0; i < count; i++)
        {
            int at = offset + (4 * i);
            byte kind = _config[at];
            if ((kind & 0x01) != 0)
            {
                Check(at, 1, 0x03, $"{name} {i}: its kind");
            }
            else if ((kind & 0x0f) != 0)
            {
                Check(at, 1, 0x0f, $"{name} {i}: its kind");
                i += (kind & 0x06) == 0x04 ? 1 : 0;
            }
        }
    }

    private void AddCapabilities()
    {
        int at = _config[0x34] & 0xfc;
        for (int i = 0; i < 48 && at is >= 0x40 and <= LegacyLength - 4; i++)
        {
            _starts.Add(at);
            AddCapability(at);
            at = _config[at + 1] & 0xfc;
        }
    }

    private void AddCapability(int at)
    {
        Check(at, 1, Whole, CapabilityId);
        Check(at + 1, 1, Whole, "next capability");
        switch (_config[at])
        {
            case 0x01:
                Check(at + 2, 2, Whole, "power management capabilities");
                break;
            case 0x04:
                Check(at + 2, 1, Whole, "slots of the chassis");
                break;
            case 0x05:
                Check(at + 2, 1, 0x8e, "MSI: number of vectors, width of the address");
                Check(at + 3, 1, 0x01, "MSI: has a mask");
                break;
            case 0x09:
                AddVendorCapability(at);
                break;
            case 0x0d:
                Check(at + 2, 2, Whole, "bridge subsystem");
                Check(at + 4, 2, Whole, "bridge subsystem vendor id");
                Check(at + 6, 2, Whole, "bridge subsystem id");
                break;
            case 0x10:
                AddExpressCapability(at);
                break;
            case 0x11:
                Check(at + 2, 1, Whole, TableSize);
                Check(at + 3, 1, 0x3f, TableSize);
                Check(at + 4, 4, Whole, "MSI-X table: BAR and offset");
                Check(at + 8, 4, Whole, "MSI-X pending bits: BAR and offset");
                break;
            case 0x12:
                Check(at + 2, 6, Whole, "SATA index and data registers");
                break;
        }
    }

    // Of virtio's window into its BARs (kind 5) the guest writes where it looks.
    private void AddVendorCapability(int at)
    {
        const byte Window = 5;
        int length = _config[at + 2];
        bool isVirtio = Word(0) == 0x1af4;
        Check(at + 2, 1, Whole, "length of a vendor's capability");
        if (isVirtio && _config[at + 3] == Window)
        {
            Check(at + 3, 1, Whole, "virtio window");
        }
        else
        {
            Check(at + 3, Math.Max(0, length - 3), Whole, isVirtio ? "virtio structure: kind, BAR, place" : "vendor's capability");
        }
    }

    private void AddExpressCapability(int at)
    {
        bool isSecondVersion = (_config[at + 2] & 0x0f) >= 2;
        Check(at + 2, 2, Whole, "PCI Express capability: version, port type, slot");
        Check(at + 4, 4, Whole, "PCI Express device capabilities");
        Check(at + 12, 4, Whole, "PCI Express link capabilities (port number, speed, width)");
        if (!isSecondVersion)
        {
            return;
        }

        Check(at + 0x14, 2, Whole, "PCI Express slot capabilities");
        Check(at + 0x16, 2, Whole, "PCI Express slot number");
        Check(at + 0x1e, 2, Whole, "PCI Express root capabilities");
        Check(at + 0x24, 4, Whole, "PCI Express device capabilities 2");
        Check(at + 0x2c, 4, Whole, "PCI Express link capabilities 2");
        Check(at + 0x30, 1, 0x0f, "PCI Express target link speed");
    }

    private void AddExtendedCapabilities()
    {
        int at = FirstExtended;
        for (int i = 0; i < 64 && at is >= FirstExtended and <= 4096 - 16; i++)
        {
            int id = Word(at);
            if (id is 0 or 0xffff)
            {
                return;
            }

            Check(at, 4, Whole, "extended capability: id, version, next");
            _starts.Add(at);
            AddExtendedCapability(at, id);
            at = Word(at + 2) >> 4;
        }
    }

    private void AddExtendedCapability(int at, int id)
    {
        switch (id)
        {
            case 0x01 when (_config[at + 0x0a] & InternalError) == 0:
                // Where this bit is clear after a reset, the guest cannot set it (x-pcie-err-unc-mask=off).
                Check(at + 0x0a, 1, InternalError, "error reporting: masks internal errors");
                break;
            case 0x03:
                Check(at + 4, 8, Whole, "device serial number");
                break;
            case 0x0d:
                Check(at + 4, 2, Whole, "access control services");
                break;
            case 0x0e:
                Check(at + 4, 2, Whole, "alternative routing: next function");
                break;
            case 0x0f:
                Check(at + 4, 2, Whole, "address translation services");
                break;
            case 0x10:
                Check(at + 4, 4, Whole, "SR-IOV capabilities");
                Check(at + 0x0c, 2, Whole, "SR-IOV initial functions");
                Check(at + 0x0e, 2, Whole, "SR-IOV total functions");
                Check(at + 0x14, 2, Whole, "SR-IOV function offset");
                Check(at + 0x16, 2, Whole, "SR-IOV function stride");
                Check(at + 0x1a, 2, Whole, "SR-IOV device id");
                Check(at + 0x1c, 4, Whole, "SR-IOV page sizes");
                AddBars(at + 0x24, 6, "SR-IOV BAR");
                break;
            case 0x1b:
                Check(at + 4, 2, Whole, "process address spaces");
                break;
            case 0x23:
                Check(at + 4, 6, Whole, "vendor's extended capability");
                break;
        }
    }
}
