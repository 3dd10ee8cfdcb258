using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Streams;

/// <summary>A file of another kind is called what it is, with what to do; Test answers for it as for any other.</summary>
public sealed class ForeignFileTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public static TheoryData<string, string, string> Kinds => new()
    {
        { "7f454c46 02010100 00000000 00000000 0400", "ELF core", "crash or gdb" },
        { "7f454c46 02010100 00000000 00000000 0300", "ELF program", "migrate" },
        { Hex("KDUMP   "), "kdump-compressed", "makedumpfile" },
        { Hex("makedumpfile\0\0\0\0"), "flattened kdump", "makedumpfile -R" },
        { Hex("PAGEDU64"), "Windows crash dump", "WinDbg" },
        { "514649fb 00000003" + new string('0', 104) + "00000002", "qcow2 disk image with 2 internal snapshots", "qemu-img snapshot -l" },
        { Hex("KDMV"), "VMDK", "disk" },
        { Hex("# Disk DescriptorFile\nversion=1"), "VMDK", "disk" },
        { new string('0', 128) + "7f10dabe", "VDI", "disk" },
        { Hex("conectix"), "VHD", "disk" },
        { Hex("vhdxfile"), "VHDX", "disk" },
        { "11223344 00000001", "multifd channel without its main stream", "folder" },
        { Hex("Xen saved domain, xl format\n"), "Xen", "QEMU cannot load it" },
        { "ffffffffffffffff 58454e46", "Xen", "QEMU cannot load it" },
        { Hex("\u007fVirtualBox SavedState V2.0"), "VirtualBox", "QEMU cannot load it" },
        { "d2bed2be", "VMware", "QEMU cannot load it" },
        { Hex("""{"id":"vm","snapshots":{},"snapshot_data":{}}"""), "Cloud Hypervisor", "--restore" },
        { Hex("""{ "vmschkmachine": { "Name": "q35" } }"""), "-dump-vmstate", "Compare a stream with it" },
        { Hex("QCPR"), "CPR state", "set of descriptors" },
        { Hex("MOPSTATE"), "device state file of this module", "as a device state" },
        { Hex("VMA\0"), "Proxmox", "vma extract" },
        { Hex("<domain type='kvm'>"), "libvirt domain's XML", "save image" },
        { Hex("bash: qemu: command not found\n"), "a text: \"bash: qemu: command not found\"", "messages" },
        { "04224d18", "lz4", "lz4 -d" },
        { Hex("LUKS") + "babe", "LUKS", "cryptsetup" },
        { Hex("HIBR"), "hibernation", "resumes" },
        { new string('0', 4096), "2,048 zero bytes only", "its offset" },
        { "01" + new string('0', 1018) + "55aa", "MBR", "disk" },
        { "01" + new string('0', 1022) + Hex("EFI PART") + new string('0', 1008), "GPT", "disk" },
        { "19435654 00000000", "CRIU", "criu restore" },
        { Hex("070701"), "cpio archive", "Unpack" },
        { Hex("!<arch>\n"), "Debian package", "Unpack" },
        { "0102030405060708", "of a kind that is not known here", "its offset" },
    };

    public void Dispose() => _folder.Dispose();

    [Theory, MemberData(nameof(Kinds))]
    public void It_is_named_from_a_file_and_from_a_pipe(string bytes, string what, string action)
    {
        byte[] content = Convert.FromHexString(bytes.Replace(" ", "", StringComparison.Ordinal));
        string path = Write(content);
        foreach (var input in new[] { new MigrationStreamInput { Path = path }, new MigrationStreamInput { Path = path, Forward = new ForwardOnly(content, 3) } })
        {
            if (content.AsSpan().StartsWith("QFI"u8) && input.Forward is null)
            {
                // A file of this kind is read: it may hold VM states.
                continue;
            }

            var report = MigrationStreams.Test(input with { Forward = input.Forward is null ? null : new ForwardOnly(content, 3) });
            Assert.Equal(["Structure"], report.Checks.Select(c => c.Name));
            Assert.False(report.Passed);
            var e = Assert.Throws<StreamException>(() => MigrationStreams.GetInfo(input));
            Assert.Equal(StreamError.NotAStream, e.Reason);
            Assert.Contains(input.Forward is not null && what.Contains("zero bytes", StringComparison.Ordinal) ? "zeros only" : what, e.Message, StringComparison.Ordinal);
            Assert.Contains(action, e.RecommendedAction, StringComparison.OrdinalIgnoreCase);
        }
    }

    [Fact]
    public void What_lies_behind_zeros_or_text_tells_what_it_is()
    {
        byte[] tail = [.. new byte[8192], .. "conectix"u8, .. new byte[504]];
        Assert.Contains("VHD", Refusal(tail).Message, StringComparison.Ordinal);
        byte[] image = new byte[40_000];
        "CD001"u8.CopyTo(image.AsSpan(0x8001));
        Assert.Contains("ISO 9660", Refusal(image).Message, StringComparison.Ordinal);
        var behind = Refusal([.. "saved by hand\n"u8, .. StreamFormat.HeaderBytes, .. new byte[100]]);
        Assert.Contains("14 bytes of something else with a migration stream behind them", behind.Message, StringComparison.Ordinal);
        Assert.Contains("offset 14", behind.RecommendedAction, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_that_was_compressed_twice_is_named()
    {
        byte[] twice = Gzip(Gzip([.. StreamFormat.HeaderBytes, 0]));
        var e = Refusal(twice);
        Assert.Contains("compressed once more, with gzip", e.Message, StringComparison.Ordinal);
        Assert.Contains("gzip -dc", e.RecommendedAction, StringComparison.Ordinal);

        static byte[] Gzip(byte[] bytes)
        {
            using var output = new MemoryStream();
            using (var gzip = new System.IO.Compression.GZipStream(output, System.IO.Compression.CompressionLevel.Fastest))
            {
                gzip.Write(bytes);
            }

            return output.ToArray();
        }
    }

    [Fact]
    public void A_file_of_the_kernel_has_an_answer()
    {
        var report = MigrationStreams.Test(new MigrationStreamInput { Path = "/proc/cpuinfo" });
        Assert.False(report.Passed);
        Assert.Contains("a text", Assert.Single(report.Checks).Detail, StringComparison.Ordinal);
    }

    private StreamException Refusal(byte[] bytes)
        => Assert.Throws<StreamException>(() => MigrationStreams.GetInfo(new MigrationStreamInput { Path = Write(bytes) }));

    [Theory]
    [InlineData("", "is empty")]
    [InlineData("5145", "ends at byte 2")]
    [InlineData("4c6962766972745165", "ends at byte 9 of the file, inside the header of a libvirt save image")]
    public void A_file_that_ends_at_once_is_cut(string bytes, string message)
    {
        var report = MigrationStreams.Test(new MigrationStreamInput { Path = Write(Convert.FromHexString(bytes)) });
        Assert.Contains(message.Replace(" of the file", "", StringComparison.Ordinal), Assert.Single(report.Checks).Detail, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_libvirt_image_that_is_cut_in_the_domain_s_xml_says_so(bool pipe)
    {
        byte[] image = [.. LibvirtHead(xml: 5000), .. new byte[3000]];
        string path = Write(image);
        var input = new MigrationStreamInput { Path = path, Forward = pipe ? new ForwardOnly(image) : null };
        var check = Assert.Single(MigrationStreams.Test(input).Checks);
        Assert.Contains("ends at byte 3,092 of the file, inside the domain's XML, which reaches to byte 5,092", check.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void Places_in_an_image_say_what_they_count_from()
    {
        byte[] stream = StreamVectors.Read("none-1m.plain.stream");
        string path = Write([.. LibvirtHead(xml: 100), .. new byte[100], .. stream.AsSpan(0, 700)]);
        var check = MigrationStreams.Test(new MigrationStreamInput { Path = path }).Checks.Single(c => c.Name == "Structure");
        Assert.Contains("ends at byte 700", check.Detail, StringComparison.Ordinal);
        Assert.Contains("Bytes count from the start of the stream, which is at byte 192 of the file.", check.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void A_stream_behind_zeros_is_offered_with_its_offset()
    {
        string path = Write([.. new byte[0x3000], .. StreamVectors.Read("none-1m.plain.stream")]);
        var e = Assert.Throws<StreamException>(() => MigrationStreams.GetInfo(new MigrationStreamInput { Path = path }));
        Assert.Contains("Give the offset 12288", e.RecommendedAction, StringComparison.Ordinal);
        Assert.True(MigrationStreams.Test(new MigrationStreamInput { Path = path, Offset = 12288 }).Passed);
    }

    [Fact]
    public void A_folder_of_channels_alone_and_a_cloud_hypervisor_snapshot_are_named()
    {
        using var scope = new TransferScope(TransferScope.DefaultTimeout);
        File.WriteAllBytes(Path.Combine(_folder.Path, "c0"), [0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1]);
        Assert.Contains("1 recorded multifd channels and no main stream", Assert.Throws<StreamException>(() => StreamSource.Open(_folder.Path, 0, null, scope)).Message, StringComparison.Ordinal);
        File.WriteAllText(Path.Combine(_folder.Path, "config.json"), "{}");
        File.WriteAllText(Path.Combine(_folder.Path, "state.json"), "{}");
        Assert.Contains("Cloud Hypervisor", Assert.Throws<StreamException>(() => StreamSource.Open(_folder.Path, 0, null, scope)).Message, StringComparison.Ordinal);
        Assert.False(MigrationStreams.Test(new MigrationStreamInput { Path = _folder.Path }).Passed);
    }

    private static byte[] LibvirtHead(int xml)
    {
        var head = new byte[92];
        "LibvirtQemudSave"u8.CopyTo(head);
        (head[16], head[24]) = (2, 1);
        System.Buffers.Binary.BinaryPrimitives.WriteInt32LittleEndian(head.AsSpan(20), xml);
        return head;
    }

    private static string Hex(string text) => Convert.ToHexString(Encoding.Latin1.GetBytes(text));

    private string Write(byte[] content)
    {
        string path = Path.Combine(_folder.Path, "file.bin");
        File.WriteAllBytes(path, content);
        return path;
    }
}
