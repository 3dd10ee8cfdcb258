using System.Buffers.Binary;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>The config state of a device that no guest uses: what QEMU has of it before a guest touched it.</summary>
public sealed class PciConfigStateTests
{
    private const int SpaceAt = 12;

    [Fact]
    public void A_real_devices_space_gives_what_QEMU_sent_of_it_without_what_its_guest_had_chosen()
    {
        byte[] real = new Capture(Capture.OneDevice).Packets("0000:00:04.0/vfio").Single(p => p.IsConfig).Data;
        byte[] expected = [.. real];
        // The guest's choices: the command bits, the address of the one register, and the interrupt line.
        Assert.Equal((0x03, 0xc011u, 0x0b), (real[SpaceAt + 4], Word(real, 0x10), real[SpaceAt + 0x3c]));
        (expected[SpaceAt + 4], expected[SpaceAt + 5], expected[SpaceAt + 0x3c]) = (0, 0, 0);
        BinaryPrimitives.WriteUInt32LittleEndian(expected.AsSpan(SpaceAt + 0x10), 1);
        // Status bits that the device of then had set are its own.
        byte[] built = PciConfigState.Build(real.AsSpan(SpaceAt, 256));
        Assert.Equal(expected, built);
        Assert.Equal(PciIdentity.ParseConfigState(real), PciIdentity.ParseConfigState(built));
    }

    [Theory]
    [InlineData(0xfebc0000, 0u)]
    [InlineData(0xfe00000c, 0xcu)]
    [InlineData(0xfe000004, 4u)]
    [InlineData(0x0000c001, 1u)]
    public void The_kind_of_an_address_stays_and_the_address_goes(uint bar, uint left)
    {
        byte[] space = new byte[256];
        BinaryPrimitives.WriteUInt32LittleEndian(space.AsSpan(0x10), bar);
        BinaryPrimitives.WriteUInt32LittleEndian(space.AsSpan(0x14), 0x12);
        byte[] built = PciConfigState.Build(space);
        Assert.Equal(left, Word(built, 0x10));
        // The second half of a wide address is address, else it is a register of its own.
        Assert.Equal((left & 7) == 4 ? 0u : 2u, Word(built, 0x14));
    }

    [Fact]
    public void MSI_X_has_a_masked_vector_each_and_its_bits_and_interrupts_are_off()
    {
        byte[] space = new byte[256];
        (space[6], space[0x34]) = (0x10, 0x40);
        (space[0x40], space[0x41], space[0x42], space[0x43]) = (0x05, 0x50, 0x81, 0x00);
        (space[0x50], space[0x51], space[0x52], space[0x53]) = (0x11, 0x00, 0x08, 0xc0);
        byte[] built = PciConfigState.Build(space);
        const int vectors = 9, table = SpaceAt + 4096 + 16;
        Assert.Equal(table + 16 * vectors + 2 + 8, built.Length);
        Assert.All(Enumerable.Range(0, vectors), v => Assert.Equal(1, built[table + 16 * v + 12]));
        Assert.Equal((0x80, 0x00), (built[SpaceAt + 0x42], built[SpaceAt + 0x53]));
        Assert.Equal(0xffffffffef100001, BinaryPrimitives.ReadUInt64BigEndian(built.AsSpan(built.Length - 8)));
    }

    [Fact]
    public void A_list_of_capabilities_that_goes_round_comes_to_an_end()
    {
        byte[] space = new byte[256];
        (space[6], space[0x34], space[0x40], space[0x41]) = (0x10, 0x40, 0x01, 0x40);
        Assert.Equal(SpaceAt + 4096 + 16 + 8, PciConfigState.Build(space).Length);
    }

    [Fact]
    public void A_device_that_is_none_of_PCI_has_an_empty_one() => Assert.Equal(ConfigState.Empty(), PciConfigState.Build([]));

    private static uint Word(byte[] state, int at) => BinaryPrimitives.ReadUInt32LittleEndian(state.AsSpan(SpaceAt + at));
}
