using System.Buffers.Binary;
using System.Globalization;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// What a PCI device is, from the head of its configuration space: the fields that QEMU compares before it loads a
/// configuration space, and that neither a guest nor its VMM changes.
/// </summary>
/// <param name="Vendor">Vendor ID.</param>
/// <param name="Device">Device ID.</param>
/// <param name="Class">Class code: base class, subclass, programming interface.</param>
/// <param name="Revision">Revision ID.</param>
/// <param name="HeaderType">Header layout, without the bit for several functions.</param>
internal readonly record struct PciIdentity(ushort Vendor, ushort Device, uint Class, byte Revision, byte HeaderType)
{
    /// <summary>Bytes of the configuration space that it is read from.</summary>
    public const int Size = 64;

    // What QEMU writes before the configuration space.
    private const uint ConfigVersion = 2;
    private const int ConfigOffset = 12;
    private const byte HeaderTypeMask = 0x7f;

    /// <summary>Reads the head of a configuration space, at least <see cref="Size"/> bytes.</summary>
    public static PciIdentity Parse(ReadOnlySpan<byte> space)
    {
        uint classAndRevision = BinaryPrimitives.ReadUInt32LittleEndian(space[8..]);
        return new(
            BinaryPrimitives.ReadUInt16LittleEndian(space), BinaryPrimitives.ReadUInt16LittleEndian(space[2..]),
            classAndRevision >> 8, (byte)classAndRevision, (byte)(space[14] & HeaderTypeMask));
    }

    /// <summary>The identity in a config state; null if it holds no PCI configuration space in a layout that is known.</summary>
    public static PciIdentity? ParseConfigState(ReadOnlySpan<byte> config)
        => config.Length >= ConfigOffset + Size && BinaryPrimitives.ReadUInt32BigEndian(config[8..]) == ConfigVersion
            ? Parse(config[ConfigOffset..])
            : null;

    /// <summary>In the form of lspci: vendor, device, class and revision in hexadecimal.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture,
        $"PCI device {Vendor:x4}:{Device:x4} (class {Class:x6}, revision {Revision:x2}, header type {HeaderType})");
}
