using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Rehearsal;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Interop.Tests.Rehearsal;

/// <summary>What a real QEMU says of multifd channels and packets that it does not take, provoked on its own sockets.</summary>
[Collection("Rehearsal")]
public sealed class MultifdMessageTests(SourceStreams streams) : IClassFixture<SourceStreams>
{
    private const string Machine = "-M q35 -accel tcg -m 32 -nodefaults";
    private const string Default = "qemu-system-x86_64";
    private const int PageSize = 4096;

    [Theory]
    [InlineData("qemu-system-x86_64-older")]
    [InlineData(Default)]
    [InlineData("qemu-system-x86_64-newer")]
    public void A_channel_that_is_not_taken_is_named(string program)
    {
        const string Uuid = " -uuid 11112222-3333-4444-5555-666677778888";
        Assert.Equal("MultifdUuid", Provoke(program, Machine + Uuid, [Init(0)]).Kind);
        Assert.Equal("MultifdChannelCount", Provoke(program, Machine, [Init(7)]).Kind);
        Assert.Equal("MultifdChannelTwice", Provoke(program, Machine, [Init(1), Init(1)]).Kind);
        var version = Provoke(program, Machine, [Altered(Init(0), 4, 9)]);
        Assert.Equal(("MultifdPacket", "version", "9", "1"), (version.Kind, version.Field, version.StreamValue, version.LocalValue));
    }

    [Theory]
    [InlineData("qemu-system-x86_64")]
    [InlineData("qemu-system-x86_64-newer")]
    public void A_packet_that_is_not_taken_is_named(string program)
    {
        Assert.Equal("MultifdPacket", Provoke(program, Machine, Channels(Altered(Packet(), 0, 0x11223355))).Kind);
        var pages = Provoke(program, Machine, Channels(Altered(Packet(), RoomAt, 500)));
        Assert.Equal(("MultifdPages", "500", "128"), (pages.Kind, pages.StreamValue, pages.LocalValue));
        Assert.Equal("MultifdPages", Provoke(program, Machine, Channels(Altered(Packet(), RoomAt + 4, 129))).Kind);
        var block = Provoke(program, Machine, Channels(Packet("nonesuch")));
        Assert.Equal(("MultifdBlock", "nonesuch"), (block.Kind, block.Field));
        Assert.Equal("MultifdOffset", Provoke(program, Machine, Channels(Packet(offset: 1L << 40))).Kind);
    }

    [Theory]
    [InlineData("none", 2, "MultifdCompression")]
    [InlineData("zlib", 0, "MultifdCompression")]
    [InlineData("zlib", 2, "MultifdDecompression")]
    [InlineData("zstd", 4, "MultifdDecompression")]
    public void Data_that_is_compressed_in_another_way_is_named(string compression, uint flags, string kind)
        => Assert.Equal(kind, Provoke(Default, Machine, Channels(Altered(Packet(), 8, flags)), compression).Kind);

    [Fact]
    public void Device_state_without_its_device_is_named()
    {
        byte[] packet = [.. Header(PacketFlags.DeviceState), .. Name("0000:00:02.0/vfio"), 0, 0, 0, 0, 0, 0, 0, 4, .. "abcd"u8];
        var cause = Provoke("qemu-system-x86_64-newer", Machine, Channels(packet));
        Assert.Equal(("DeviceStateWithoutDevice", "0000:00:02.0/vfio"), (cause.Kind, cause.Device));
    }

    // Behind the header: room for pages, normal pages, bytes that follow, number, zero pages, 28 unused bytes, block, offsets.
    private const int RoomAt = PacketHeader.Size;

    private static byte[] Packet(string block = "pc.ram", long offset = 0)
    {
        byte[] packet = new byte[RamPacket.SizeFor(PageSize) + PageSize];
        Header(PacketFlags.None).CopyTo(packet, 0);
        Altered(packet, RoomAt, 128);
        Altered(packet, RoomAt + 4, 1);
        Altered(packet, RoomAt + 8, PageSize);
        Name(block).CopyTo(packet, RoomAt + 52);
        BinaryPrimitives.WriteInt64BigEndian(packet.AsSpan(RoomAt + 52 + 256), offset);
        packet.AsSpan(RamPacket.SizeFor(PageSize)).Fill(0xa5);
        return packet;
    }

    private static byte[] Header(PacketFlags flags)
    {
        byte[] header = new byte[PacketHeader.Size];
        new PacketHeader(flags).Write(header);
        return header;
    }

    private static byte[] Name(string text)
    {
        byte[] name = new byte[256];
        Encoding.ASCII.GetBytes(text, name);
        return name;
    }

    private static byte[] Init(byte id)
    {
        byte[] init = new byte[ChannelInit.Size];
        new ChannelInit(Guid.Empty, id).Write(init);
        return init;
    }

    private static byte[][] Channels(byte[] packet) => [[.. Init(0), .. packet], Init(1)];

    private static byte[] Altered(byte[] bytes, int at, uint value)
    {
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(at), value);
        return bytes;
    }

    // The main stream comes as far as the list of RAM blocks, and the channels behind it.
    private QemuLogFinding Provoke(string program, string machine, byte[][] channels, string compression = "none")
    {
        string stream = streams.Save(machine, program);
        var ram = MigrationStreams.GetInfo(new MigrationStreamInput { Path = stream }).Sections.First(s => s.IdStr == "ram");
        string path = streams.Folder.File(Guid.NewGuid().ToString("N")[..8]);
        using var qemu = QemuProcess.Start(streams.Folder, Guid.NewGuid().ToString("N")[..8], [.. SourceStreams.Words(machine), "-S", "-incoming", "defer"], program: program);
        qemu.SetCapability("multifd");
        qemu.SetParameters(new JsonObject { ["multifd-channels"] = 2, ["multifd-compression"] = compression });
        qemu.Command("migrate-incoming", new JsonObject { ["uri"] = $"unix:{path}" });
        var open = new List<Socket>();
        try
        {
            foreach (byte[] bytes in channels.Prepend(File.ReadAllBytes(stream)[..(int)(ram.Offset + ram.Length)]))
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                open.Add(socket);
                socket.Connect(new UnixDomainSocketEndPoint(path));
                socket.Send(bytes);
            }
        }
        catch (SocketException)
        {
            // It has refused an earlier channel already: what it says is waited for.
        }

        try
        {
            // Some releases end at once. Others break the channels, and tell it when the main stream has ended as well.
            qemu.WaitUntil(() => Cause(qemu) is not null || qemu.HasExited || open.Skip(1).Any(IsClosed), "the refusal");
            open.ForEach(s => s.Dispose());
            qemu.WaitUntil(() => Cause(qemu) is not null || qemu.HasExited, "the end");
            qemu.Kill();
            return Cause(qemu) ?? throw new InvalidOperationException($"It says nothing: {qemu.Output}");
        }
        finally
        {
            open.ForEach(s => s.Dispose());
        }
    }

    // The main stream that breaks off is said too.
    private static QemuLogFinding? Cause(QemuProcess qemu)
        => QemuLogExplainer.Explain([qemu.Output]).FirstOrDefault(f => f.Refuses && f.Kind.StartsWith("Multifd", StringComparison.Ordinal) || f.Kind == "DeviceStateWithoutDevice");

    private static bool IsClosed(Socket socket) => socket.Poll(0, SelectMode.SelectRead) && socket.Available == 0;
}
