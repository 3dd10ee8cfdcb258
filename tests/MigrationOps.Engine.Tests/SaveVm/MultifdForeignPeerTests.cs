using System.Buffers.Binary;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>The target driver against sources that are not ours, or break the protocol.</summary>
public class MultifdForeignPeerTests
{
    // And the announcement of the switchover: the devices are set up once something follows the header.
    private static readonly byte[] Header = [0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3, 8, 0, 11, 0, 0];

    [Fact]
    public void A_source_that_closes_its_channels_after_the_target_s_word_like_qemu_is_told_when_the_load_threads_are_done()
    {
        var pair = new MultifdPair
        {
            TargetChannels = 2,
            InsteadOfSource = (connect, scope) =>
            {
                var main = connect(scope);
                Stream[] channels = [connect(scope), connect(scope)];
                channels[0].Write([.. Init(0), .. Packet("a", 0)]);
                channels[1].Write([.. Init(1), .. Packet("a", 1)]);
                main.Write([.. Header, 8, 0, 1, 0, 0, 0]);
                byte[] shut = new byte[8];
                main.ReadExactly(shut);
                Assert.Equal([0, 1, 0, 4, 0, 0, 0, 0], shut);
            },
        };
        var device = new PacketDevice("a", pair.Log, 2, 10) { Loading = PacketDevice.AwaitAll };
        pair.Target.Register("a", 0, 1, device);
        pair.Succeed();
        Assert.Equal(20, device.Loaded.Length);
    }

    public static TheoryData<string, byte[][], string> Breaches => new()
    {
        { "neither main nor multifd", [[1, 2, 3, 4], Init(0)], "StreamNotAStream" },
        { "two main channels", [Header, Header], "MultifdDuplicateMainChannel" },
        { "no main channel", [Init(0), Init(1)], "MultifdMissingMainChannel" },
        { "an id beyond the channels", [Header, Init(1)], "MultifdChannelIdOutOfRange" },
        { "a connection that ends at once", [Header, [0x11]], "StreamTruncated" },
        { "a cut init message", [Header, Init(0)[..30]], "StreamTruncated" },
        { "another version", [Header, [0x11, 0x22, 0x33, 0x44, 0, 0, 0, 9, .. new byte[56]]], "StreamUnsupportedVersion" },
        { "a cut packet", [Header, [.. Init(0), .. Packet("a", 0)[..200]]], "StreamTruncated" },
        { "cut data", [Header, [.. Init(0), .. Packet("a", 0)[..^1]]], "StreamTruncated" },
        { "a device that is not there", [Header, [.. Init(0), .. Packet("b", 0)]], "SaveVmUnknownSection" },
        { "an instance that is not there", [Header, [.. Init(0), .. Packet("a", 0, instance: 3)]], "SaveVmUnknownSection" },
        { "a device that takes none", [Header, [.. Init(0), .. Packet("deaf", 0)]], "SaveVmInvalidHandlers" },
        { "a packet beyond the limit", [Header, [.. Init(0), .. Oversized("a")]], "StreamPacketTooLarge" },
        { "rubbish between packets", [Header, [.. Init(0), .. Packet("a", 0), .. new byte[300]]], "StreamInvalidPacketMagic" },
    };

    [Theory]
    [MemberData(nameof(Breaches))]
    public void A_breach_of_the_protocol_ends_the_migration_by_name(string what, byte[][] connections, string errorId)
    {
        var pair = new MultifdPair
        {
            TargetChannels = 1,
            InsteadOfSource = (connect, scope) =>
            {
                Stream? first = null;
                foreach (byte[] bytes in connections)
                {
                    var connection = connect(scope);
                    first ??= connection;
                    connection.Write(bytes);
                    if (bytes != connections[0] || bytes[0] != 0x51)
                    {
                        ((FdStream)connection).EndWriting();
                    }
                }

                AwaitClose(first!);
            },
        };
        pair.Target.Register("a", 0, 1, new PacketDevice("a", pair.Log, 5, 10));
        pair.Target.Register("deaf", 0, 1, new ScriptedDevice("deaf", pair.Log, SaveVmHandler.LoadState));
        pair.Run();
        Assert.True(pair.TargetFailure is MigrationOpsException failure && failure.ErrorId == errorId, $"{what}: {pair.TargetFailure}");
        Assert.Equal(1, pair.Log.Count("a.LoadCleanup"));
    }

    [Fact]
    public void Pages_of_ram_that_no_handler_takes_are_no_success()
    {
        byte[] ram = new byte[RamPacketSize + 4096];
        BinaryPrimitives.WriteUInt32BigEndian(ram, ChannelInit.Magic);
        "pc.ram"u8.CopyTo(ram.AsSpan(64));
        BinaryPrimitives.WriteUInt32BigEndian(ram.AsSpan(4), 1);
        BinaryPrimitives.WriteUInt32BigEndian(ram.AsSpan(12), 128);
        BinaryPrimitives.WriteUInt32BigEndian(ram.AsSpan(16), 1);
        BinaryPrimitives.WriteUInt32BigEndian(ram.AsSpan(20), 4096);
        var pair = new MultifdPair
        {
            TargetChannels = 1,
            InsteadOfSource = (connect, scope) =>
            {
                connect(scope).Write([.. Header, 0]);
                var channel = connect(scope);
                channel.Write([.. Init(0), .. ram]);
                ((FdStream)channel).EndWriting();
            },
        };
        pair.Target.Register("a", 0, 1, new PacketDevice("a", pair.Log, 5, 10));
        pair.Run();
        Assert.Equal(SaveVmError.NotSupported, Assert.IsType<SaveVmException>(pair.TargetFailure).Reason);
    }

    // The main channel stays open until the target has found out what is wrong with the others.
    private static void AwaitClose(Stream connection)
    {
        try
        {
            Span<byte> buffer = stackalloc byte[64];
            while (connection.Read(buffer) > 0)
            {
            }
        }
        catch (WireException e) when (e.Reason == WireError.Disconnected)
        {
            // Closed with our bytes unread.
        }
    }

    private static int RamPacketSize => RamPacket.SizeFor(4096);

    private static byte[] Init(byte id)
    {
        byte[] init = new byte[ChannelInit.Size];
        new ChannelInit(Guid.Empty, id).Write(init);
        return init;
    }

    private static byte[] Packet(string idStr, uint index, uint instance = 0)
    {
        byte[] packet = new byte[DeviceStatePacket.Size + 14];
        DeviceStatePacket.Write(packet, idStr, instance, 14);
        BinaryPrimitives.WriteUInt32BigEndian(packet.AsSpan(DeviceStatePacket.Size), index);
        return packet;
    }

    private static byte[] Oversized(string idStr)
    {
        byte[] packet = new byte[DeviceStatePacket.Size];
        DeviceStatePacket.Write(packet, idStr, 0, OutgoingChannels.MaxPacket + 1);
        return packet;
    }
}
