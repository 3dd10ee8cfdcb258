using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Tests.Streams;

public class VirtioOwnPartTests
{
    [Fact]
    public void A_console_tells_its_ports()
    {
        var ports = ConsolePorts.Parse(StreamBuilder.Empty().U16(0).U16(0).U32(33).U32(0b1001).U32(1).U32(1).U32(3).U8(1).U8(1).U32(0).Bytes)!;
        Assert.Equal((33u, 2u, 3u), (ports.Most, ports.Words, ports.First!.Value));
        Assert.Equal([0, 3, 32], ports.Numbers);
    }

    [Theory]
    [InlineData(4)]
    [InlineData(11)]
    public void A_console_that_is_cut_tells_nothing(int length)
        => Assert.Null(ConsolePorts.Parse(StreamBuilder.Empty().U16(0).U16(0).U32(31).U32(1).U32(0).Bytes.AsSpan(0, length)));

    [Fact]
    public void A_console_with_too_many_ports_tells_nothing()
        => Assert.Null(ConsolePorts.Parse(StreamBuilder.Empty().U16(0).U16(0).U32(0xffffffff).U32(1).Bytes));

    [Fact]
    public void The_number_of_screens_lies_behind_the_guest_s_pictures()
    {
        byte[] bytes = StreamBuilder.Empty().U32(7).U32(2).U32(1).U32(0).U32(1).U64(0x1000).U32(8).U64(0).U32(0).U32(1).U32(4).Bytes;
        Assert.Equal(4u, GpuScreens.Count(bytes));
        Assert.Null(GpuScreens.Count(bytes.AsSpan(0, bytes.Length - 1)));
        Assert.Null(GpuScreens.Count(StreamBuilder.Empty().U32(7).U32(0xffffffff).U32(0xffffffff).U32(0).U32(0).Bytes));
    }
}
