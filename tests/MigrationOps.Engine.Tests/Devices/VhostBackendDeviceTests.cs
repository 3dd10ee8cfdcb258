using System.Buffers.Binary;
using MigrationOps.Engine.Devices;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.SaveVm;
using MigrationOps.Engine.Tests.Storage;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Tests.Vfio;
using MigrationOps.Engine.Tests.Vhost;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Devices;

public sealed class VhostBackendDeviceTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    [InlineData(3_000_000)]
    public void A_back_end_s_state_travels_as_a_section_in_the_chunks_that_qemu_writes(int size)
    {
        byte[] state = new byte[size];
        new Random(size).NextBytes(state);
        var target = new MemoryBackendState(new byte[] { 9 });
        using var a = Start("a", new MemoryBackendState(state));
        using var b = Start("b", target);
        byte[] stream = Send("a");
        Assert.Equal(1, BrokenConnectionTests.Load(Device("b"), stream).Sections);
        Assert.Equal(state, target.Content.ToArray());
        Assert.Equal((1, 1), (a.Connections, b.Connections));

        // Behind the section's head of 8 + 9 + 5 (switchover) + 22 bytes.
        var body = stream.AsSpan(8 + 9 + 5 + 1 + 4 + 1 + 4 + 4 + 4);
        long total = 0;
        uint length;
        while ((length = BinaryPrimitives.ReadUInt32BigEndian(body)) > 0)
        {
            total += length;
            body = body[(4 + (int)length)..];
        }

        Assert.Equal(size, total);
        Assert.Equal(StreamFormat.Footer, body[4]);
    }

    [Fact]
    public void A_back_end_that_cannot_move_its_state_refuses_before_anything_is_sent()
    {
        using var a = VhostBackend.Start(new VhostBackendOptions
        {
            SocketPath = _folder["a"],
            State = new MemoryBackendState(new byte[] { 1 }),
            ProtocolFeatures = 0,
        });
        using var output = new MemoryStream();
        var failure = Assert.Throws<SaveVmException>(() => Send("a", output));
        Assert.IsType<VhostException>(failure.InnerException);
        Assert.Contains("SavePrepare", failure.Message, StringComparison.Ordinal);
        Assert.Equal(0, output.Length);
    }

    [Fact]
    public void A_stream_that_is_cut_inside_the_state_is_no_load_and_leaves_the_back_end_free_for_a_whole_one()
    {
        byte[] state = new byte[10_000];
        new Random(1).NextBytes(state);
        var target = new MemoryBackendState(new byte[] { 9 });
        using var a = Start("a", new MemoryBackendState(state));
        using var b = Start("b", target);
        byte[] stream = Send("a");
        var failure = Assert.Throws<StreamException>(() => BrokenConnectionTests.Load(Device("b"), stream[..5000]));
        Assert.Equal((StreamError.Truncated, 5000L), (failure.Reason, failure.ByteOffset));
        BrokenConnectionTests.Load(Device("b"), stream);
        Assert.Equal(state, target.Content.ToArray());
    }

    private byte[] Send(string name)
    {
        using var output = new MemoryStream();
        Send(name, output);
        return output.ToArray();
    }

    private void Send(string name, MemoryStream output)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        new SaveVmSource(Device(name), new SaveVmSourceOptions()).Run(_ => output, scope);
    }

    private SaveVmRegistry Device(string name)
        => Migrations.Registry(("virt", new VhostBackendDevice(_folder[name], TimeSpan.FromSeconds(10))));

    private VhostBackend Start(string name, BackendState state)
        => VhostBackend.Start(new VhostBackendOptions { SocketPath = _folder[name], State = state });
}
