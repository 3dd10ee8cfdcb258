using System.Buffers.Binary;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>RAM of multifd channels in the spool: what cannot be is named, and rounds stay apart. The good case runs with real sources.</summary>
public sealed class SpooledRamTests : IDisposable
{
    private const int PageSize = 4096;

    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private readonly TransferScope _scope = new(Limit);

    public void Dispose() => _scope.Dispose();

    [Theory]
    [InlineData("pc.ram", 0x0, 0u, null, null)]
    [InlineData("other", 0x0, 0u, "RAM block 'other', which the list of the main stream does not have", "StreamInvalidRamPacket")]
    [InlineData("pc.ram", 0x2000, 0u, "0x2000 of RAM block 'pc.ram', which is 0x2000 bytes long", "StreamInvalidRamPacket")]
    [InlineData("pc.ram", -0x1000, 0u, "of RAM block 'pc.ram', which is 0x2000 bytes long", "StreamInvalidRamPacket")]
    [InlineData("pc.ram", 0x0, 2u, "are compressed", "SaveVmNotSupported")]
    public void A_packet_is_written_as_a_section_or_refused_with_its_byte_and_channel(string block, long offset, uint flags, string? words, string? reason)
    {
        using var output = new MemoryStream();
        using var rounds = new RoundBarrier(1, () => 0, _scope);
        var ram = new SpooledRam(output, new object(), rounds);
        var registry = Migrations.Registry(("ram", new ScriptedDevice("ram", new CallLog(), ScriptedDevice.Live)));
        ram.Begin(registry.Entries[0], null!);
        ram.OnRamBlock(new RamBlock(0, "pc.ram", 2 * PageSize) { NameBytes = "pc.ram"u8.ToArray() });
        using var channel = new ChannelReader(new MemoryStream(Packet(block, offset, flags)), "channel 0");
        int size = RamPacket.SizeFor(PageSize);
        channel.Require(size, "a packet");
        if (words is null)
        {
            Receive();
            byte[] head = [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 6, .. "pc.ram"u8];
            byte[] tail = [0, 0, 0, 0, 0, 0, 0, 16, 0x7e, 0, 0, 0, 1];
            byte[] expected = [.. head, .. Enumerable.Repeat((byte)7, PageSize), .. tail];
            Assert.Equal(Convert.ToHexString(expected), Convert.ToHexString(output.ToArray()));
            return;
        }

        var failure = Assert.ThrowsAny<MigrationOpsException>(Receive);
        Assert.Contains(words, failure.Message, StringComparison.Ordinal);
        Assert.Equal((reason, 0L), (failure.ErrorId, failure.ByteOffset));
        Assert.Equal(0, output.Length);

        void Receive()
        {
            var bytes = channel.Bytes();
            Assert.True(RamPacket.TryRead(ref bytes, PageSize, 1 << 20, out var packet));
            ram.Receive(packet, size, channel);
        }
    }

    [Fact]
    public async Task No_channel_begins_a_round_before_all_have_ended_the_last_one_and_the_main_stream_too()
    {
        const int Channels = 3;
        const int Rounds = 200;
        using var barrier = new RoundBarrier(Channels, () => 0, _scope);
        int[] ended = new int[Channels];
        var channels = Enumerable.Range(0, Channels).Select(id => Task.Factory.StartNew(() =>
        {
            for (int round = 0; round < Rounds; round++)
            {
                Assert.All(ended, e => Assert.InRange(e, round, round + 1));
                Interlocked.Increment(ref ended[id]);
                barrier.AwaitRound();
            }
        }, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)).ToArray();
        var main = Task.Factory.StartNew(() =>
        {
            for (int round = 1; round <= Rounds; round++)
            {
                barrier.AwaitChannels();
                Assert.All(ended, e => Assert.InRange(e, round, round + 1));
            }
        }, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        await Task.WhenAll([.. channels, main]).WaitAsync(Limit, TestContext.Current.CancellationToken);
    }

    [Fact]
    public void A_channel_that_never_ends_its_round_is_named_with_the_deadline()
    {
        using var scope = new TransferScope(TimeSpan.FromMilliseconds(200));
        using var barrier = new RoundBarrier(2, () => 0, scope);
        var failure = Assert.Throws<SaveVmException>(barrier.AwaitChannels);
        Assert.Equal(SaveVmError.PeerSilent, failure.Reason);
        Assert.Contains("2 of 2 multifd channels have not", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_cancellation_ends_the_waits_of_both_sides()
    {
        using var cancel = new CancellationTokenSource();
        using var scope = new TransferScope(Timeout.InfiniteTimeSpan, cancel.Token);
        using var barrier = new RoundBarrier(2, () => 0, scope);
        var waits = new Action[] { barrier.AwaitRound, barrier.AwaitChannels }
            .Select(wait => Task.Factory.StartNew(() => Assert.ThrowsAny<OperationCanceledException>(wait), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)).ToArray();
        await cancel.CancelAsync();
        await Task.WhenAll(waits).WaitAsync(Limit, TestContext.Current.CancellationToken);
    }

    // One page of sevens.
    private static byte[] Packet(string block, long offset, uint flags)
    {
        byte[] packet = new byte[RamPacket.SizeFor(PageSize) + PageSize];
        var span = packet.AsSpan();
        BinaryPrimitives.WriteUInt32BigEndian(span, 0x11223344);
        BinaryPrimitives.WriteUInt32BigEndian(span[4..], 1);
        BinaryPrimitives.WriteUInt32BigEndian(span[8..], flags);
        BinaryPrimitives.WriteUInt32BigEndian(span[12..], 128);
        BinaryPrimitives.WriteUInt32BigEndian(span[16..], 1);
        BinaryPrimitives.WriteUInt32BigEndian(span[20..], PageSize);
        System.Text.Encoding.ASCII.GetBytes(block, span[64..]);
        BinaryPrimitives.WriteInt64BigEndian(span[320..], offset);
        span[RamPacket.SizeFor(PageSize)..].Fill(7);
        return packet;
    }
}
