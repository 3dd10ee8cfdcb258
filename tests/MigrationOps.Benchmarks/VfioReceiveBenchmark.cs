using System.Globalization;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Benchmarks;

/// <summary>
/// Device state over loopback channels into a null sink, against threads that do nothing but read such sockets; then
/// what the receiver allocates for a packet, how much memory it takes, and whether many devices cost speed.
/// </summary>
internal sealed class VfioReceiveBenchmark : TransferBenchmark
{
    private const long Budget = 256L << 20;

    // 8 GiB is the measure; less shows whether anything changed.
    private static readonly long Size = long.Parse(
        Environment.GetEnvironmentVariable("MIGRATIONOPS_BENCHMARK_GIB") ?? "8", CultureInfo.InvariantCulture) << 30;

    internal override string Name => "vfio-receive";

    internal override string Description => $"{Size >> 30} GiB of device state in 1 MiB packets over loopback channels into a null sink";

    internal override void Run(BenchmarkReport report)
    {
        using var folder = new TmpfsFolder();
        string unix = "unix:" + folder.File("s.sock");
        // First, because the memory of a receipt is kept for the next one for a while.
        report.Figure("resident memory above idle, everything early", EarlyMemory(folder), "MiB", (Budget >> 20) + 64);
        foreach (int channels in new[] { 1, 2, 4, 8 })
        {
            foreach (string uri in new[] { "tcp:127.0.0.1:0", unix })
            {
                report.Compare($"{channels} channels, {uri[..4].TrimEnd(':')}, against a drain loop", Size, 0.9,
                    () => Receive(uri, channels, 1, Size, folder), () => BareDrain.Run(uri, channels, Size));
            }
        }

        report.Compare("64 devices against 1, 4 channels", Size, 1.0,
            () => Receive(unix, 4, 64, Size, folder), () => Receive(unix, 4, 1, Size, folder));
        report.Figure("allocation per packet, 4 channels", AllocationPerPacket(unix, folder), "bytes", 0.1);
    }

    private static TimeSpan Receive(
        string uri, int channels, int devices, long size, TmpfsFolder folder, IDeviceStateSink? sink = null, long budget = Budget) => BenchmarkReport.Time(() =>
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, CancellationToken.None);
        using var listener = Transport.Listen(Endpoint.Parse(uri), TransportSecurity.Default, scope);
        using var receiver = new DeviceStateReceiver(
            new ReassemblyOptions { MemoryBudget = budget, SpillDirectory = folder.File("") }, (_, _) => sink ?? new NullSink(), scope.CancellationToken);
        var traffic = new ChannelTraffic(channels, devices, size).Start(listener.Endpoint);
        MigrationReceiver.Receive(listener, new ReceiveOptions { Channels = channels }, receiver, null, scope);
        Array.ForEach(traffic, t => t.Join());
    });

    // From the middle of a transfer to the last of its data: set-up is behind it by then, and so is the growth of the buffers'
    // pool, because a small budget is soon used up. All threads of the process count, also the runtime's own; a test counts
    // what the data path's alone takes, which is nothing.
    private static double AllocationPerPacket(string uri, TmpfsFolder folder)
    {
        var sink = new SecondHalfSink(Size);
        Receive(uri, 4, 1, Size, folder, sink, budget: 32L << 20);
        return sink.LeastPerByte * ChannelTraffic.PacketData;
    }

    // The first packet comes last, so that everything has to wait: memory up to the budget, then the spill file.
    private static double EarlyMemory(TmpfsFolder folder)
    {
        const int Count = 2048;
        string uri = "unix:" + folder.File("s.sock");
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);

        // 5 resets the peak of the resident set (proc_pid_clear_refs(5)).
        File.WriteAllText("/proc/self/clear_refs", "5");
        long idle = Peak();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, CancellationToken.None);
        using var listener = Transport.Listen(Endpoint.Parse(uri), TransportSecurity.Default, scope);
        using var receiver = new DeviceStateReceiver(
            new ReassemblyOptions { MemoryBudget = Budget, SpillDirectory = folder.File("") }, (_, _) => new NullSink(), scope.CancellationToken);
        var sender = new Thread(() => SendBackwards(listener.Endpoint, Count));
        sender.Start();
        MigrationReceiver.Receive(listener, new ReceiveOptions { Channels = 1 }, receiver, null, scope);
        sender.Join();
        return (Peak() - idle) / 1024.0;
    }

    private static void SendBackwards(Endpoint endpoint, int count)
    {
        using var main = ChannelTraffic.Connect(endpoint);
        var writer = new MainStreamWriter(main);
        writer.Begin([]);
        using var setup = new MemoryStream();
        new MarkerWriter(setup).WriteSetup();
        writer.Section(SectionKind.Start, new StreamSection(SectionKind.Start, 0, "d/vfio", 0, 1, 0, 0), setup.ToArray());
        writer.StartSwitchover();
        using (var channel = ChannelTraffic.Connect(endpoint))
        {
            byte[] buffer = new byte[DeviceStatePacket.Size + VfioPacketHeader.Size + ChannelTraffic.PacketData];
            new ChannelInit(Guid.Empty, 0).Write(buffer);
            channel.Write(buffer.AsSpan(0, ChannelInit.Size));
            for (int i = count; i >= 0; i--)
            {
                byte[] config = ConfigState.Empty();
                int length = i == count ? config.Length : ChannelTraffic.PacketData;
                DeviceStatePacket.Write(buffer, "d/vfio", 0, VfioPacketHeader.Size + length);
                VfioPacketHeader.For((uint)i, i == count).Write(buffer.AsSpan(DeviceStatePacket.Size));
                if (i == count)
                {
                    config.CopyTo(buffer, DeviceStatePacket.Size + VfioPacketHeader.Size);
                }

                channel.Write(buffer.AsSpan(0, DeviceStatePacket.Size + VfioPacketHeader.Size + length));
            }
        }

        writer.End();
    }

    private static long Peak()
    {
        string line = File.ReadLines("/proc/self/status").First(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
    }

    /// <summary>
    /// Notes what is allocated, by whatever thread, in each sixteenth of the second half, and keeps the least: a collection
    /// counts what was left of a thread's allocation area as allocated, up to 8 KiB each, in the part where it happens.
    /// </summary>
    private sealed class SecondHalfSink(long size) : IDeviceStateSink
    {
        private readonly long _part = size / 16;
        private long _bytes;
        private long _before;

        internal double LeastPerByte { get; private set; } = double.MaxValue;

        public void Write(ReadOnlySpan<byte> data)
        {
            long part = _bytes / _part;
            _bytes += data.Length;
            if (_bytes / _part == part || _bytes < size / 2)
            {
                return;
            }

            long allocated = GC.GetTotalAllocatedBytes(precise: true);
            LeastPerByte = _before == 0 ? LeastPerByte : Math.Min(LeastPerByte, (allocated - _before) / (double)_part);
            _before = GC.GetTotalAllocatedBytes(precise: true);
        }

        public void Complete(ReadOnlySpan<byte> config)
        {
        }

        public void Dispose()
        {
        }
    }
}
