using MigrationOps.Engine.Wire;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>One receipt into memory.</summary>
internal sealed record Reception(
    MigrationSummary Migration, IReadOnlyList<(DeviceSummary Summary, byte[] Data, byte[] Config)> Devices)
{
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
