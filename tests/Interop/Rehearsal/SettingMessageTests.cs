using System.Buffers.Binary;
using MigrationOps.Engine.Rehearsal;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Interop.Tests.Rehearsal;

/// <summary>
/// What a real QEMU says where the settings of both sides or their memory differ. Not provoked here: RamPageSize, which needs huge
/// pages that the host has set aside, and ConfigSpace and VfioConfigState, which need a VFIO device (tests/VfioLab has one).
/// </summary>
[Collection("Rehearsal")]
public sealed class SettingMessageTests(SourceStreams streams) : IClassFixture<SourceStreams>
{
    private const string Machine = "-M pc-q35-7.2 -accel tcg -m 32 -nodefaults";
    private const string Default = "qemu-system-x86_64";

    public static TheoryData<string> Programs => new() { "qemu-system-x86_64-older", Default, "qemu-system-x86_64-newer" };

    [Theory, MemberData(nameof(Programs))]
    public void Postcopy_that_one_side_does_not_expect_is_named(string program)
    {
        string stream = streams.Save(Machine, program);
        AssertCause("PostcopyOn", "", program, Insert(stream, [8, 0, 3, 0, 0]), Machine, "postcopy-ram");
        AssertCause("PostcopyOff", "", program, Insert(stream, Advise(4096, 4096)), Machine);
        AssertCause("PostcopyPageSize", "", program, Insert(stream, Advise(8192, 4096)), Machine, "postcopy-ram");
        AssertCause("PostcopyPageSize", "", program, Insert(stream, Advise(4096, 8192)), Machine, "postcopy-ram");
    }

    [Theory, MemberData(nameof(Programs))]
    public void Memory_that_is_not_as_here_is_named(string program)
    {
        string stream = streams.Save(Machine, program);
        var end = MigrationStreams.GetInfo(new MigrationStreamInput { Path = stream }).Sections.First(s => s.IdStr == "ram" && s.Kind == "End");
        int body = (int)end.Offset + 5;
        byte[] page = [0, 0, 0, 0, 0, 0, 0, 0x40, 6, .. "pc.ram"u8, 1, 0, 4, .. "abcd"u8];
        // QEMU 11.1 does not say which section it was in.
        AssertCause("XbzrlePage", null, program, streams.Alter(stream, b => [.. b[..body], .. page, .. b[body..]]), Machine);
        page = [0, 0x40, 0, 0, 0, 0, 0, 0x08, 6, .. "pc.ram"u8, .. new byte[4096]];
        AssertCause("RamOffset", null, program, streams.Alter(stream, b => [.. b[..body], .. page, .. b[body..]]), Machine);
        page = [0, 0, 0, 0, 0, 0, 0, 0x08, 6, .. "nonono"u8, .. new byte[4096]];
        var block = AssertCause("RamOffset", null, program, streams.Alter(stream, b => [.. b[..body], .. page, .. b[body..]]), Machine);
        Assert.Equal("nonono", block.Field);
    }

    [Theory, MemberData(nameof(Programs))]
    public void Shared_memory_at_another_address_is_named(string program)
    {
        string file = streams.Folder.File("dimm");
        string machine = $"-M pc-q35-7.2 -accel tcg -m 32M,slots=2,maxmem=256M -nodefaults -object memory-backend-file,id=m1,size=2M,share=on,mem-path={file} -device pc-dimm,memdev=m1,addr=";
        string stream = streams.Save(machine + "0x100000000", program, "x-ignore-shared");
        var cause = AssertCause("RamAddress", "ram", program, stream, machine + "0x108000000", "x-ignore-shared");
        Assert.Equal("m1", cause.Field);
    }

    [Theory, MemberData(nameof(Programs))]
    public void A_device_of_hardware_that_is_not_here_is_named(string program)
        => AssertCause("UnknownSection", "0000:00:02.0/vfio", program,
            Insert(streams.Save(Machine, program), [1, 0, 0, 0, 77, 17, .. "0000:00:02.0/vfio"u8, 0, 0, 0, 0, 0, 0, 0, 1]), Machine);

    [Theory, MemberData(nameof(Programs))]
    public void Virtio_features_that_are_not_offered_are_named(string program)
    {
        string machine = Machine + " -device virtio-rng-pci";
        string altered = streams.AlterField(streams.Save(machine, program), "*virtio-rng", ["virtio", "guest_features"], [0, 0, 0, 0x20]);
        AssertCause("UnsupportedFeatures", "0000:00:01.0/virtio-rng", program, altered, machine);
    }

    [Fact]
    public void A_queue_longer_than_the_device_has_is_named_by_the_release_that_refuses_it()
    {
        string machine = Machine + " -device virtio-scsi-pci,virtqueue_size=";
        string stream = streams.Save(machine + "256");
        var cause = AssertCause("QueueSize", "0000:00:01.0/virtio-scsi", "qemu-system-x86_64-newer", stream, machine + "64");
        Assert.Equal(("0", "256", "64"), (cause.Field, cause.StreamValue, cause.LocalValue));
        Assert.True(streams.Load(stream, machine + "64").Loads);
    }

    [Theory]
    [InlineData(Default)]
    [InlineData("qemu-system-x86_64-newer")]
    public void The_header_of_a_mapped_ram_file_is_named(string program)
    {
        string stream = streams.Save(Machine, program, "mapped-ram");
        string altered = streams.Alter(stream, b =>
        {
            // Behind the block's name and length: the header's version.
            BinaryPrimitives.WriteUInt32BigEndian(b.AsSpan(b.AsSpan().IndexOf("\u0006pc.ram"u8) + 7 + 8), 9);
            return b;
        });
        var cause = AssertCause("MappedRamHeader", "ram", program, altered, Machine, "mapped-ram");
        Assert.Equal(("9", "1"), (cause.StreamValue, cause.LocalValue));
        AssertCause("Capability", "", program, stream, Machine);
    }

    [Fact]
    public void Pages_of_another_size_are_named()
    {
        const string Virt = "-M virt -accel tcg -m 32 -nodefaults -cpu cortex-a57";
        string stream = streams.Save(Virt, "qemu-system-aarch64");
        string altered = streams.Alter(stream, b =>
        {
            BinaryPrimitives.WriteUInt32BigEndian(b.AsSpan(b.AsSpan().IndexOf("target-page-bits"u8) + 16 + 4), 16);
            return b;
        });
        var cause = AssertCause("PageSize", "", "qemu-system-aarch64", altered, Virt);
        Assert.Equal(("16", "12"), (cause.StreamValue, cause.LocalValue));
    }

    private QemuLogFinding AssertCause(string kind, string? device, string program, string stream, string target, params string[] capabilities)
    {
        var (loads, words) = streams.Load(stream, target, program, capabilities);
        Assert.False(loads, $"{kind}: QEMU loads it. {words}");
        var cause = QemuLogExplainer.FindCause(QemuLogExplainer.Explain([words]));
        Assert.True(cause is not null, words);
        Assert.True(kind == cause.Kind && (device is null || device == cause.Device), $"{cause.Kind} '{cause.Device}': {words}");
        Assert.DoesNotContain("{", cause.Meaning + cause.RecommendedAction);
        return cause;
    }

    // Before the first section.
    private string Insert(string stream, byte[] bytes)
    {
        int at = (int)MigrationStreams.GetInfo(new MigrationStreamInput { Path = stream }).Sections[0].Offset;
        return streams.Alter(stream, b => [.. b[..at], .. bytes, .. b[at..]]);
    }

    private static byte[] Advise(ulong ram, ulong target)
    {
        byte[] command = [8, 0, 3, 0, 16, .. new byte[16]];
        BinaryPrimitives.WriteUInt64BigEndian(command.AsSpan(5), ram);
        BinaryPrimitives.WriteUInt64BigEndian(command.AsSpan(13), target);
        return command;
    }
}
