using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>One receipt into memory.</summary>
internal sealed record Reception(
    MigrationSummary Migration, IReadOnlyList<(DeviceSummary Summary, byte[] Data, byte[] Config)> Devices)
{
    /// <summary>The same, in the order in which QEMU's target works: the main stream up to the switchover, then channel after channel.</summary>
    internal static Reception RunInTurn(byte[] main, IReadOnlyList<byte[]> channels, ReceiveOptions options, TimeSpan timeout)
    {
        using var scope = new TransferScope(timeout, ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
        using var devices = new DeviceStateReceiver(new ReassemblyOptions(), (_, _) => new MemorySink(), scope.CancellationToken);
        ManualResetEventSlim[] turns = [.. channels.Prepend(main).Select(_ => new ManualResetEventSlim())];
        var streams = channels.Select((bytes, i) => (Stream)new TurnStream(bytes, turns[i], turns[i + 1], scope.CancellationToken));
        var migration = MigrationReceiver.Receive(
            streams.Prepend(new MemoryStream(main, writable: false)), options, new AnnouncingReceiver(devices, turns[0].Set), scope);
        return new Reception(migration, [.. devices.Devices.Select(d =>
            (d.Summary, ((MemorySink)d.Sink).Data.ToArray(), ((MemorySink)d.Sink).Config!))]);
    }

    internal static Reception Run(
        IEnumerable<Stream> connections, ReassemblyOptions? reassembly = null, ReceiveOptions? options = null, TimeSpan? timeout = null)
    {
        options ??= new ReceiveOptions();
        using var scope = new TransferScope(timeout ?? TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
        using var devices = new DeviceStateReceiver(reassembly ?? new ReassemblyOptions(), (_, _) => new MemorySink(), scope.CancellationToken);
        var migration = MigrationReceiver.Receive(connections, options, devices, scope);
        return new Reception(migration, [.. devices.Devices.Select(d =>
            (d.Summary, ((MemorySink)d.Sink).Data.ToArray(), ((MemorySink)d.Sink).Config!))]);
    }
}

/// <summary>A stream that gives its bytes in pieces of random sizes.</summary>
internal sealed class ChoppyStream(byte[] bytes, int seed, int largest) : MemoryStream(bytes, writable: false)
{
    private readonly Random _random = new(seed);

    public override int Read(Span<byte> buffer) => base.Read(buffer[..Math.Min(buffer.Length, _random.Next(1, largest + 1))]);
}

/// <summary>A stream that says when it has been read to its end.</summary>
internal sealed class AnnouncingStream(byte[] bytes, CountdownEvent ended) : MemoryStream(bytes, writable: false)
{
    private bool _said;

    public override int Read(Span<byte> buffer)
    {
        int count = base.Read(buffer);
        if (count == 0 && !_said)
        {
            _said = true;
            ended.Signal();
        }

        return count;
    }
}

/// <summary>A stream that gives nothing before all the others have ended.</summary>
internal sealed class LastStream(byte[] bytes, CountdownEvent others) : MemoryStream(bytes, writable: false)
{
    public override int Read(Span<byte> buffer)
    {
        others.Wait(TestContext.Current.CancellationToken);
        return base.Read(buffer);
    }
}

/// <summary>A stream that waits for its turn, and gives the next one its turn when it has been read to its end.</summary>
internal sealed class TurnStream(byte[] bytes, ManualResetEventSlim turn, ManualResetEventSlim next, CancellationToken cancelled)
    : MemoryStream(bytes, writable: false)
{
    public override int Read(Span<byte> buffer)
    {
        turn.Wait(cancelled);
        int count = base.Read(buffer);
        if (count == 0)
        {
            next.Set();
        }

        return count;
    }
}

/// <summary>Passes everything on, and says when the pre-copy part is over.</summary>
internal sealed class AnnouncingReceiver(IDeviceStateReceiver inner, Action preCopyEnded) : IDeviceStateReceiver
{
    public bool IsComplete => inner.IsComplete;

    public bool HasInitialData => inner.HasInitialData;

    public int InitialDataMarks => inner.InitialDataMarks;

    public IDeviceSections? OpenSections(StreamSection section) => inner.OpenSections(section);

    public void Receive(in DeviceStatePacket packet, ChannelReader channel) => inner.Receive(packet, channel);

    public void Complete() => inner.Complete();

    public void EndPreCopy(bool allAnnounced)
    {
        inner.EndPreCopy(allAnnounced);
        preCopyEnded();
    }
}

/// <summary>The other side of a transfer runs as a task; this waits for it, bounded by the test's cancellation.</summary>
internal static class Background
{
    internal static T Outcome<T>(this Task<T> task)
    {
        Assert.True(task.Wait(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken), "The other side has not ended.");
        return task.GetAwaiter().GetResult();
    }

    internal static T Outcome<T>(this TaskCompletionSource<T> source) => source.Task.Outcome();
}
