using System.Buffers.Binary;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// The config state of a PCI device that no guest uses, in the layout of QEMU's vfio-pci: what QEMU has in its view of the same device
/// right after it was plugged in and before a guest touched it.
/// </summary>
/// <remarks>
/// <code>
/// u64 DEV_CONFIG_STATE, u32 version 2, 4096 bytes of configuration space, 4 × u32 level of INTA to INTD,
/// with MSI-X: 16 bytes a vector, one bit a vector rounded up to bytes; u64 END_OF_STATE        (all big-endian but the space)
/// </code>
/// A QEMU that loads it compares every bit that a guest cannot write with its own view. Where it changes that view itself - it hides a
/// capability, or adds one - it refuses the device. The addresses are empty: they are a guest's choice, and would be mapped as they are.
/// Source: QEMU's documentation of VFIO migration, PCI Local Bus Specification 3.0, chapter 6; bytes of QEMU 10.0.13.
/// </remarks>
internal static class PciConfigState
{
    /// <summary>QEMU gives every vfio-pci device the space of PCI Express, whatever the device has.</summary>
    internal const int SpaceSize = 4096;

    private const int HeaderSize = 64;
    private const int ConventionalSize = 256;
    private const uint Version = 2;
    private const int IrqBytes = 4 * sizeof(uint);
    private const int VectorBytes = 16;
    private const uint VectorMasked = 1;

    private const int Command = 0x04;
    private const int Status = 0x06;
    private const int HeaderType = 0x0e;
    private const int FirstBar = 0x10;
    private const int LastBar = 0x24;
    private const int RomBar = 0x30;
    private const int CapabilityList = 0x34;
    private const int InterruptLine = 0x3c;
    private const ushort StatusHasCapabilities = 0x10;
    private const ushort StatusInterrupt = 0x08;
    private const byte MultiFunction = 0x80;
    private const byte CapabilityMsi = 0x05;
    private const byte CapabilityMsiX = 0x11;
    private const ushort MsiXEnable = 0x8000;
    private const ushort MsiXMaskAll = 0x4000;
    private const ushort MsiXTableSize = 0x07ff;
    private const ushort MsiEnable = 0x0001;

    /// <summary>The config state, both markers included.</summary>
    /// <param name="space">The device's configuration space as it was read; empty for a device that is none of PCI.</param>
    internal static byte[] Build(ReadOnlySpan<byte> space)
    {
        if (space.Length < HeaderSize)
        {
            return ConfigState.Empty();
        }

        byte[] view = new byte[SpaceSize];
        space[..Math.Min(space.Length, SpaceSize)].CopyTo(view);
        int vectors = ClearGuestSettings(view);
        int length = 8 + sizeof(uint) + SpaceSize + IrqBytes + vectors * VectorBytes + (vectors + 7) / 8 + 8;
        byte[] state = new byte[length];
        BinaryPrimitives.WriteUInt64BigEndian(state, (ulong)VfioMarker.ConfigState);
        BinaryPrimitives.WriteUInt32BigEndian(state.AsSpan(8), Version);
        view.CopyTo(state, 12);
        int table = 12 + SpaceSize + IrqBytes;
        for (int vector = 0; vector < vectors; vector++)
        {
            // Address and data are empty; the last word masks the vector, as it is after a reset.
            BinaryPrimitives.WriteUInt32LittleEndian(state.AsSpan(table + vector * VectorBytes + 12), VectorMasked);
        }

        BinaryPrimitives.WriteUInt64BigEndian(state.AsSpan(length - 8), (ulong)VfioMarker.EndOfState);
        return state;
    }

    // Returns the number of MSI-X vectors.
    private static int ClearGuestSettings(Span<byte> view)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(view[Command..], 0);
        ushort status = BinaryPrimitives.ReadUInt16LittleEndian(view[Status..]);
        BinaryPrimitives.WriteUInt16LittleEndian(view[Status..], (ushort)(status & ~StatusInterrupt));
        view[HeaderType] &= unchecked((byte)~MultiFunction);
        view[InterruptLine] = 0;
        for (int bar = FirstBar; bar <= LastBar; bar += 4)
        {
            bar += EmptyBar(view, bar);
        }

        view.Slice(RomBar, 4).Clear();
        return (status & StatusHasCapabilities) != 0 ? DisableInterrupts(view) : 0;
    }

    // Leaves the kind of an address register and takes the address. Returns the bytes of a second half.
    private static int EmptyBar(Span<byte> view, int bar)
    {
        const uint isPort = 1, kindOfPort = 3, kindOfMemory = 0xf, width = 6, wide = 4;
        uint value = BinaryPrimitives.ReadUInt32LittleEndian(view[bar..]);
        uint kind = (value & isPort) != 0 ? value & kindOfPort : value & kindOfMemory;
        BinaryPrimitives.WriteUInt32LittleEndian(view[bar..], kind);
        if ((value & isPort) != 0 || (value & width) != wide || bar == LastBar)
        {
            return 0;
        }

        view.Slice(bar + 4, 4).Clear();
        return 4;
    }

    private static int DisableInterrupts(Span<byte> view)
    {
        int vectors = 0;
        // Each capability has at least four bytes: a list that is longer goes round.
        int at = view[CapabilityList] & ~3;
        for (int count = 0; at >= HeaderSize && at <= ConventionalSize - 4 && count < ConventionalSize / 4; count++)
        {
            var control = view[(at + 2)..];
            ushort value = BinaryPrimitives.ReadUInt16LittleEndian(control);
            if (view[at] == CapabilityMsiX)
            {
                vectors = (value & MsiXTableSize) + 1;
                BinaryPrimitives.WriteUInt16LittleEndian(control, (ushort)(value & ~(MsiXEnable | MsiXMaskAll)));
            }
            else if (view[at] == CapabilityMsi)
            {
                BinaryPrimitives.WriteUInt16LittleEndian(control, (ushort)(value & ~MsiEnable));
            }

            at = view[at + 1] & ~3;
        }

        return vectors;
    }
}
