using System.Buffers.Binary;
using System.Text;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Rehearsal;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Rehearsal;

/// <summary>
/// Each message of the table, provoked in a real QEMU; and the rehearsal of the same stream, which must come to the verdict that
/// QEMU came to.
/// </summary>
[Collection("Rehearsal")]
public sealed class QemuMessageTests(SourceStreams streams) : IClassFixture<SourceStreams>
{
    private const string Base = "-M q35 -accel tcg -m 32 -nodefaults";
    private const string Block = Base + " -blockdev driver=null-co,node-name=d,size=1048576,read-zeroes=on -device virtio-blk-pci,drive=d,addr=3";

    private static readonly Encoding Latin = Encoding.Latin1;

    [Theory]
    [InlineData(Block, Block + ",vectors=5", "BadConfigData", "0000:00:03.0/virtio-blk")]
    [InlineData(Base + " -device virtio-rng-pci", Base, "UnknownSection", "0000:00:01.0/virtio-rng")]
    [InlineData(Base + " -device virtio-net-pci", Base, "UnknownRamBlock", "ram")]
    [InlineData(Base + " -device qemu-xhci", Base + " -device qemu-xhci,p2=8", "MissingFooter", "0000:00:01.0/xhci")]
    [InlineData(Base, "-M q35 -accel tcg -m 64 -nodefaults", "SizeMismatch", "ram")]
    [InlineData(Base + " -device VGA", Base + " -device VGA,vgamem_mb=32", "SizeMismatch", "ram")]
    [InlineData(Base + " -device e1000e", Base + " -device e1000e,subsys=5", "PropertiesDiffer", "0000:00:01.0/e1000e")]
    // QEMU 10.0 ends in an assertion on its own stream.
    [InlineData(Base + " -device qemu-xhci,msix=off", Base + " -device qemu-xhci,msix=off", "Assertion", "")]
    [InlineData(Base, "-M pc -accel tcg -m 32 -nodefaults", "MachineType", "")]
    [InlineData(Base + " -device virtio-gpu-pci,max_outputs=1", Base + " -device virtio-gpu-pci,max_outputs=4", "BadValue", "0000:00:01.0/virtio-gpu")]
    public void A_vm_that_differs_is_refused_for_that_reason(string source, string target, string kind, string device)
        => AssertRefused(streams.Save(source), target, kind, device);

    [Fact]
    public void A_run_state_that_no_vm_begins_with_is_named()
        => AssertRefused(streams.AlterField(streams.Save(Base), "globalstate", ["runstate"], Latin.GetBytes("debug\0")), Base, "RunState", "");

    [Fact]
    public void A_run_state_that_does_not_exist_is_named()
        => AssertRefused(streams.AlterField(streams.Save(Base), "globalstate", ["runstate"], Latin.GetBytes("nonesuch\0")), Base, "RunStateName", "globalstate");

    [Fact]
    public void A_queue_that_was_used_without_an_address_is_named()
        => AssertRefused(streams.Alter(streams.Save(Block), bytes => AlterQueue(bytes, "0000:00:03.0/virtio-blk")), Block, "QueueAddress", "0000:00:03.0/virtio-blk");

    [Theory]
    [InlineData(0, 0, "NotAStream")]
    [InlineData(7, 2, "StreamVersion")]
    [InlineData(7, 4, "StreamVersion")]
    public void A_head_that_is_wrong_is_named(int offset, byte value, string kind)
        => AssertRefused(streams.Alter(streams.Save(Base), bytes => Set(bytes, offset, value)), Base, kind, "", rehearse: false);

    [Fact]
    public void A_stream_without_its_configuration_is_named()
        => AssertRefused(streams.Alter(streams.Save(Base), bytes => [.. bytes[..8], .. bytes[(int)FirstSection(bytes)..]]), Base, "ConfigurationMissing", "");

    [Fact]
    public void A_section_of_another_version_is_named()
    {
        string stream = streams.Save(Base);
        var device = MigrationStreams.GetDevices(new MigrationStreamInput { Path = stream }, "timer")[0];
        AssertRefused(streams.Alter(stream, bytes => Put(bytes, (int)device.Offset - 4, 99)), Base, "UnsupportedSectionVersion", "timer");
        AssertRefused(streams.Alter(stream, bytes => Put(bytes, (int)device.Offset - 4, 0)), Base, "VersionTooOld", "timer");
    }

    [Fact]
    public void A_subsection_of_another_version_is_named()
    {
        string stream = streams.Save(Base);
        AssertRefused(streams.Alter(stream, bytes =>
        {
            // Type, length, name, version.
            int at = bytes.AsSpan().IndexOf(Latin.GetBytes("\u0005\u0018cpu/msr_hyperv_reenlight")) is > 0 and var hyperv ? hyperv : FindSubsection(bytes);
            return Put(bytes, at + 2 + bytes[at + 1], 77);
        }), Base, "VersionTooNew", null);
    }

    [Fact]
    public void Footers_and_section_numbers_that_are_wrong_are_named()
    {
        string stream = streams.Save(Base);
        var device = MigrationStreams.GetDevices(new MigrationStreamInput { Path = stream }, "timer")[0];
        int footer = (int)(device.Offset + device.Length);
        AssertRefused(streams.Alter(stream, bytes => Set(bytes, footer, 0x12)), Base, "MissingFooter", "timer");
        AssertRefused(streams.Alter(stream, bytes => Put(bytes, footer + 1, 99)), Base, "FooterMismatch", "timer");
        AssertRefused(streams.Alter(stream, bytes => Set(bytes, footer + 5, 0x66)), Base, "UnknownSectionType", "");
        var part = MigrationStreams.GetInfo(new MigrationStreamInput { Path = stream }).Sections.First(s => s.Kind == "End");
        AssertRefused(streams.Alter(stream, bytes => Put(bytes, (int)part.Offset + 1, 4242)), Base, "UnknownSectionId", "");
    }

    [Fact]
    public void A_stream_that_ends_early_is_named()
    {
        string stream = streams.Save(Base);
        var part = MigrationStreams.GetInfo(new MigrationStreamInput { Path = stream }).Sections.First(s => s.IdStr == "ram" && s.Kind == "End");
        AssertRefused(streams.Alter(stream, bytes => bytes[..(int)(part.Offset + 6)]), Base, "SectionFailed", "ram");
    }

    [Fact]
    public void A_word_of_the_memory_that_does_not_exist_is_named()
    {
        string stream = streams.Save(Base);
        var end = MigrationStreams.GetInfo(new MigrationStreamInput { Path = stream }).Sections.First(s => s.IdStr == "ram" && s.Kind == "End");
        AssertRefused(streams.Alter(stream, bytes => Set(bytes, (int)end.Offset + 5 + 7, 0)), Base, "RamFlags", "ram");
    }

    [Fact]
    public void What_the_sides_have_to_set_alike_is_named()
    {
        // Migration to a file does without postcopy, so the command is put in: 16 bytes of page sizes.
        AssertRefused(streams.Alter(streams.Save(Base), bytes => [.. bytes[..(int)FirstSection(bytes)],
            8, 0, 3, 0, 16, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, .. bytes[(int)FirstSection(bytes)..]]), Base, "PostcopyOff", "", rehearse: false);
        string uuid = " -uuid 11112222-3333-4444-5555-66667777888";
        AssertRefused(streams.Save(Base + uuid + "8", capabilities: "validate-uuid"), Base + uuid + "9", "Uuid", "");
        string shared = "-M q35,memory-backend=m0 -accel tcg -m 32 -nodefaults -object memory-backend-memfd,id=m0,size=32M,share=on";
        AssertRefused(streams.Save(shared, capabilities: "x-ignore-shared"), shared, "Capability", "", rehearse: false);
    }

    [Fact]
    public void Lines_that_QEMU_goes_on_after_do_not_refuse()
    {
        string withUuid = streams.Save(Base + " -uuid 11112222-3333-4444-5555-666677778888", capabilities: "validate-uuid");
        AssertLoads(withUuid, Base, "UuidNotSet");
        string stream = streams.Save(Base);
        var info = MigrationStreams.GetInfo(new MigrationStreamInput { Path = stream });
        long eof = info.Sections.Max(s => s.Offset + s.Length);
        AssertLoads(streams.Alter(stream, bytes => bytes[..(bytes.AsSpan().LastIndexOf("{"u8) is var _ ? FindEof(bytes) : (int)eof)]), Base, "DescriptionMissing");
    }

    [Fact]
    public void Other_cpu_registers_are_named()
    {
        const string Virt = "-M virt -accel tcg -m 32 -nodefaults -cpu ";
        AssertRefused(streams.Save(Virt + "max", "qemu-system-aarch64"), Virt + "cortex-a57", "CpuRegisters", "cpu", "qemu-system-aarch64");
    }

    private void AssertRefused(string stream, string target, string kind, string? device, string program = "qemu-system-x86_64", bool rehearse = true)
    {
        var (loads, words) = streams.Load(stream, target, program);
        Assert.False(loads, "QEMU loads it.");
        var findings = QemuLogExplainer.Explain([words]);
        var cause = QemuLogExplainer.FindCause(findings);
        Assert.True(cause is not null, words);
        if (kind == "BadValue")
        {
            // The releases tell it in one of two ways.
            Assert.Contains(cause.Kind, new[] { "EqualField", "FieldNotLoaded", "BadConfigData", "DeviceFailed" });
        }
        else
        {
            Assert.True(kind == cause.Kind, $"{cause.Kind}: {words}");
        }

        Assert.True(device is null || device == cause.Device, $"'{cause.Device}': {words}");
        Assert.DoesNotContain("{", cause.Meaning + cause.RecommendedAction);
        if (rehearse)
        {
            var rehearsal = Rehearse(stream, target, program);
            Assert.False(rehearsal.Passed);
            Assert.Equal(cause.Kind, rehearsal.Kind);
            Assert.Equal(cause.Device, rehearsal.Section);
            if (MigrationStreams.GetInfo(new MigrationStreamInput { Path = stream }).Failure.Length == 0)
            {
                var skipped = Rehearse(stream, target, program, skipMemory: true);
                Assert.Equal((false, rehearsal.Kind, rehearsal.Section), (skipped.Passed, skipped.Kind, skipped.Section));
            }
        }
    }

    private void AssertLoads(string stream, string target, string kind)
    {
        var (loads, words) = streams.Load(stream, target, "qemu-system-x86_64");
        Assert.True(loads, words);
        var finding = QemuLogExplainer.Explain([words]).First(f => f.Kind != "Unknown");
        Assert.Equal(kind, finding.Kind);
        Assert.False(finding.Refuses);
        Assert.True(Rehearse(stream, target, "qemu-system-x86_64").Passed);
        Assert.True(Rehearse(stream, target, "qemu-system-x86_64", skipMemory: true).Passed);
    }

    private static MigrationRehearsal Rehearse(string stream, string target, string program, bool skipMemory = false)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        return StreamRehearsal.RunAsync(new RehearsalOptions
        {
            Input = new MigrationStreamInput { Path = stream },
            Program = Peers.Require(program),
            ArgumentList = SourceStreams.Words(target),
            WorkingDirectory = "/",
            SkipMemory = skipMemory,
        }, scope).GetAwaiter().GetResult();
    }

    private static byte[] Set(byte[] bytes, int offset, byte value)
    {
        bytes[offset] = value;
        return bytes;
    }

    private static byte[] Put(byte[] bytes, int offset, uint value)
    {
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(offset), value);
        return bytes;
    }

    private long FirstSection(byte[] bytes)
    {
        string path = streams.Folder.File(Guid.NewGuid().ToString("N"));
        File.WriteAllBytes(path, bytes);
        return MigrationStreams.GetInfo(new MigrationStreamInput { Path = path }).Sections[0].Offset;
    }

    // EOF, the description's type, its length, a brace.
    private static int FindEof(byte[] bytes)
    {
        for (int i = bytes.Length - 7; i > 0; i--)
        {
            if (bytes[i] == 0 && bytes[i + 1] == 6 && bytes[i + 6] == '{'
                && BinaryPrimitives.ReadUInt32BigEndian(bytes.AsSpan(i + 2)) == bytes.Length - i - 6)
            {
                return i + 1;
            }
        }

        throw new InvalidDataException("The stream has no description at its end.");
    }

    private static int FindSubsection(byte[] bytes)
    {
        int at = bytes.AsSpan().IndexOf(Latin.GetBytes("cpu/"));
        while (at > 0 && (bytes[at - 2] != 5 || at + bytes[at - 1] + 4 > bytes.Length))
        {
            int next = bytes.AsSpan(at + 1).IndexOf(Latin.GetBytes("cpu/"));
            Assert.True(next >= 0, "The stream has no subsection of the CPU.");
            at += 1 + next;
        }

        return at - 2;
    }

    // The first queue's last_avail_idx lies behind its size, its alignment and its address.
    private byte[] AlterQueue(byte[] bytes, string device)
    {
        string path = streams.Folder.File(Guid.NewGuid().ToString("N"));
        File.WriteAllBytes(path, bytes);
        var found = MigrationStreams.GetDevices(new MigrationStreamInput { Path = path }, device)[0];
        Assert.True(found["virtio"] is not null, found.Tree);
        var index = Find(found.Fields, "last_avail_idx");
        Assert.True(index is not null, found.Tree);
        BinaryPrimitives.WriteUInt16BigEndian(bytes.AsSpan((int)index!.Offset), 7);
        return bytes;
    }

    private static MigrationStreamField? Find(IEnumerable<MigrationStreamField> fields, string name)
        => fields.Select(f => f.Name == name ? f : Find(f.Fields, name)).FirstOrDefault(f => f is not null);
}
