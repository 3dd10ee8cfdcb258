using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>Captures of real devices with one thing wrong: on most of these a real QEMU hangs, on some it reports success.</summary>
public class FaultTests
{
    internal static readonly Dictionary<string, (string Error, Action<EditedCapture> Alter)> Faults = new()
    {
        ["a data packet is missing"] = ("StreamMissingPacket", c => c.Remove(c.Data)),
        ["the config packet is missing"] = ("StreamMissingConfig", c => c.Remove(c.Config)),
        ["every packet of a device is missing"] = ("StreamMissingConfig", c => c.DevicePackets.ToList().ForEach(c.Remove)),
        ["an index comes twice"] = ("StreamIndexBehind", c => c.InsertAfter(c.Data, c.Data.Clone())),
        ["the config packet comes twice"] = ("StreamDuplicateConfig", c => c.InsertAfter(c.Config, c.Config.Clone())),
        ["a second config packet has another index"] = ("StreamDuplicateConfig", c =>
        {
            var second = c.Config.Clone();
            second.Index = 5;
            c.InsertAfter(c.Config, second);
        }
        ),
        ["the packet has another version"] = ("StreamUnsupportedVersion", c => c.Data.SetPayload(0, 1)),
        ["the index is 0xffffffff"] = ("StreamInvalidIndex", c => c.Data.Index = uint.MaxValue),
        ["the index is far beyond the window"] = ("StreamIndexBeyondWindow", c => c.Data.Index = 0x7fffffff),
        ["the payload is shorter than its header"] = ("StreamShortPacket", c => c.Data.Resize(new byte[11])),
        ["the packet is empty"] = ("StreamEmptyDevicePacket", c => c.Data.Resize([])),
        ["the device is unknown"] = ("VfioUnknownDevice", c => c.Data.SetIdStr("0000:00:09.0/vfio")),
        ["the instance is unknown"] = ("VfioUnknownDevice", c => c.Data.SetHead(268, 3)),
        ["a device packet has the SYNC flag"] = ("StreamInvalidDeviceFlags", c => c.Data.SetHead(8, 0x41)),
        ["a device packet has a compression"] = ("StreamInvalidDeviceFlags", c => c.Data.SetHead(8, 0x42)),
        ["the config state is cut short"] = ("StreamTruncatedConfig", c => c.Config.Resize(c.Config.Payload[..^8])),
        ["the config state has no bytes"] = ("StreamTruncatedConfig", c => c.Config.Resize(c.Config.Payload[..12])),
        ["a data packet has the CONFIG flag"] = ("StreamDuplicateConfig",
            c => c.Data.SetPayload(8, 1)),
        ["the config packet lacks its flag"] = ("StreamMissingConfig", c => c.Config.SetPayload(8, 0)),
        ["the config packet has a smaller index than data"] = ("StreamPacketAfterConfig", c =>
        {
            c.Data.Index = 1;
            c.Config.Index = 0;
        }
        ),
        ["a data packet has the index of the config packet"] = ("StreamDuplicateIndex", c =>
        {
            var second = c.Data.Clone();
            second.Index = 1;
            c.InsertAfter(c.Config, second);
        }
        ),
        ["a packet follows the config packet"] = ("StreamPacketAfterConfig", c =>
        {
            var trailing = c.Data.Clone();
            trailing.Index = 2;
            c.InsertAfter(c.Config, trailing);
        }
        ),
        ["the size is beyond the limit"] = ("StreamPacketTooLarge", c => c.Data.SetHead(272, 64 * 1024 * 1024 + 1)),
        ["the idstr has no NUL"] = ("StreamInvalidIdStr", c => c.Data.Head.AsSpan(12, 256).Fill((byte)'x')),
        ["the idstr is empty"] = ("StreamInvalidIdStr", c => c.Data.SetIdStr("")),
        ["a channel's magic is wrong"] = ("StreamNotAStream", c => c.Channels[0].Init[0] = 0x99),
        ["a channel's version is wrong"] = ("StreamUnsupportedVersion", c => c.Channels[0].Init[7] = 2),
        ["channels are of different machines"] = ("MultifdUuidMismatch", c => c.Channels[0].Init[8] = 1),
        ["a channel id is not below the number of channels"] = ("MultifdChannelIdOutOfRange", c => c.Channels[0].Init[24] = 2),
        ["a channel id comes twice"] = ("MultifdDuplicateChannel", c => c.Channels[0].Init[24] = c.Channels[1].Init[24]),
        ["a channel is missing"] = ("MultifdMissingChannel", c => c.Channels.RemoveAt(0)),
        ["every channel is missing"] = ("MultifdMissingChannel", c => c.Channels.Clear()),
        ["a packet's magic is wrong"] = ("StreamInvalidPacketMagic", c => c.Data.SetHead(0, 0x11223345)),
        ["a packet's version is wrong"] = ("StreamUnsupportedVersion", c => c.Data.SetHead(4, 9)),
        ["a RAM packet has more pages than room"] = ("StreamInvalidRamPacket", c => Ram(c).SetHead(16, 129)),
        ["a RAM packet's size is not that of its pages"] = ("StreamInvalidRamPacket", c => Ram(c).SetHead(20, 4095)),
        ["a RAM packet is of another page size"] = ("StreamInvalidRamPacket", c => Ram(c).SetHead(12, 32)),
        ["a SYNC packet is missing"] = ("MultifdMissingSync", c => c.Remove(c.Channels[0].Packets.Last(p => p.Head[11] == 1))),
        ["the main stream ends early"] = ("StreamTruncated", c => c.Main = c.Main[..13000]),
        ["the main stream ends inside a section"] = ("StreamTruncated", c => c.Main = c.Main[..300]),
        ["the main stream has an unknown section type"] = ("StreamUnknownElement", c => c.Main[27] = 0x33),
        ["the main stream's magic is wrong"] = ("StreamNotAStream", c => c.Main[0] = 0),
        ["the main stream's version is wrong"] = ("StreamUnsupportedVersion", c => c.Main[7] = 2),
        ["a marker of the device is wrong"] = ("StreamInvalidMarker", c => c.Main[c.Main.AsSpan().IndexOf("/vfio"u8) + 5 + 8 + 7] = 9),
    };

    public static TheoryData<string> Names { get; } = [.. Faults.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void Each_fault_is_an_error_with_a_name_of_its_own(string fault)
    {
        var capture = new EditedCapture(Capture.ConfigFirst);
        var (error, alter) = Faults[fault];
        alter(capture);
        var options = new ReceiveOptions { Channels = 2 };
        var failure = Assert.ThrowsAny<MigrationOpsException>(() => Reception.RunInTurn(
            capture.Main, [.. Enumerable.Range(0, capture.Channels.Count).Select(capture.Bytes)], options, TimeSpan.FromSeconds(2)));
        Assert.Equal(error, failure.ErrorId);
        Assert.NotEmpty(failure.RecommendedAction);
        if (failure is StreamException { ConcernsDevice: true, Reason: not (StreamError.MissingConfig or StreamError.MissingPacket or StreamError.InvalidMarker) })
        {
            Assert.Contains("0000:00:04.0/vfio", failure.Message);
            Assert.NotNull(failure.ByteOffset);
        }
    }

    [Fact]
    public void The_error_names_device_channel_index_and_offset()
    {
        var capture = new EditedCapture(Capture.ConfigFirst);
        capture.Data.Index = 0x7fffffff;
        var failure = Assert.Throws<StreamException>(() => Reception.Run(capture.Streams()));
        Assert.Equal("device '0000:00:04.0/vfio', packet 2147483647 (channel 0, byte 238,464): packet 0 is due, and the window is 262,144.",
            failure.Message);
    }

    [Fact]
    public void A_cut_at_any_byte_of_a_channel_is_an_error()
    {
        var capture = new EditedCapture(Capture.OneDevice);
        byte[] whole = capture.Bytes(0);
        foreach (int length in Enumerable.Range(0, 64).Concat(Enumerable.Range(0, 200).Select(i => 64 + i * 852)).Where(l => l < whole.Length))
        {
            IEnumerable<Stream> streams = [new MemoryStream(capture.Main), new MemoryStream(whole[..length]), new MemoryStream(capture.Bytes(1))];
            Assert.ThrowsAny<MigrationOpsException>(() => Reception.Run(streams));
        }
    }

    [Fact]
    public void What_QEMU_accepts_without_harm_is_accepted_with_a_warning()
    {
        var capture = new EditedCapture(Capture.ConfigFirst);
        capture.Data.SetPayload(8, 0x80);
        capture.Data.Resize(capture.Data.Payload[..12]);
        capture.Config.Resize([.. capture.Config.Payload, 1, 2, 3]);
        capture.Config.SetHead(8, 0x1040);
        var received = Reception.Run(capture.Streams());
        var device = Assert.Single(received.Devices);
        Assert.Equal(4132, device.Config.Length);
        Assert.Equal(device.Summary.PrecopyBytes, device.Summary.Bytes);
        Assert.Collection(device.Summary.Warnings,
            w => Assert.StartsWith("3 bytes follow the end mark", w),
            w => Assert.StartsWith("Packet 0 has no data", w),
            w => Assert.Contains("unknown flag bits 0x80", w));
        Assert.Contains("unknown flag bits 0x1000", Assert.Single(received.Migration.Warnings));
    }

    [Fact]
    public void Too_many_devices_are_an_error()
    {
        var failure = Assert.Throws<VfioException>(
            () => Reception.Run(new Capture(Capture.TwoDevices).Streams(), new ReassemblyOptions { MaxDevices = 1 }));
        Assert.Equal(VfioError.TooManyDevices, failure.Reason);
    }

    [Fact]
    public void A_connection_that_stays_silent_ends_within_the_deadline()
    {
        var capture = new Capture(Capture.ConfigFirst);
        using var pipe = new System.IO.Pipes.AnonymousPipeServerStream(System.IO.Pipes.PipeDirection.Out);
        using var scope = new TransferScope(TimeSpan.FromSeconds(1), ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
        using var devices = new DeviceStateReceiver(new ReassemblyOptions(), (_, _) => new MemorySink(), scope.CancellationToken);
        var silent = new FdStream(
            new Microsoft.Win32.SafeHandles.SafeFileHandle(pipe.ClientSafePipeHandle.DangerousGetHandle(), false), FileAccess.Read, scope, "silent");
        var failure = Assert.Throws<MultifdException>(() => MigrationReceiver.Receive(
            [silent, .. capture.Channels.Select(c => new MemoryStream(c))], new ReceiveOptions(), devices, scope));
        Assert.Equal(MultifdError.NoProgress, failure.Reason);
        Assert.Contains("The main channel has not connected; channel 0 at byte 253,764, channel 1 at byte 308,484.", failure.Message);
    }

    private static RecordedPacket Ram(EditedCapture capture) => capture.Channels[0].Packets.First(p => p.Payload.Length > 0 && !p.IsDevice);
}
