using System.Net;
using System.Net.Sockets;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Benchmarks;

/// <summary>An iterating device over loopback TCP, beside a bare loop of writes and reads on such sockets.</summary>
internal sealed class TcpMigrationBenchmark : TransferBenchmark
{
    private const int Piece = 1 << 20;
    private const long Total = 1L << 30;

    internal override string Name => "savevm-tcp";

    internal override string Description => $"an iterating device of {Total >> 20:N0} MiB from driver to driver over loopback TCP";

    internal override void Run(BenchmarkReport report) => report.Compare("iterating device, pieces of 1 MiB", Total, 0.9, Migrate, Copy);

    private static TimeSpan Migrate() => BenchmarkReport.Time(() =>
    {
        using var scope = new TransferScope(TransferScope.DefaultTimeout);
        using var listener = Transport.Listen(new Endpoint.Tcp("127.0.0.1", 0), TransportSecurity.Default, scope);
        var target = Task.Factory.StartNew(() =>
        {
            Stream? connection = null;
            new SaveVmTarget(Registry(new Sink()), new SaveVmTargetOptions { ReturnPath = true }).Run(_ => connection = listener.Accept("the source"), scope);
            connection!.Dispose();
        }, TaskCreationOptions.LongRunning);
        SaveVmTransfer.Send(Registry(new Device()), listener.Endpoint, TransportSecurity.Default, new SaveVmSourceOptions
        {
            ReturnPath = true,
            DowntimeLimit = TimeSpan.Zero,
        }, scope);
        target.GetAwaiter().GetResult();
    });

    private static TimeSpan Copy() => BenchmarkReport.Time(() =>
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var target = Task.Factory.StartNew(() =>
        {
            using var from = listener.AcceptSocket();
            byte[] buffer = new byte[Piece];
            while (from.Receive(buffer) > 0)
            {
            }
        }, TaskCreationOptions.LongRunning);
        using (var to = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true })
        {
            to.Connect(listener.LocalEndpoint);
            byte[] piece = new byte[Piece];
            for (long left = Total; left > 0; left -= Piece)
            {
                to.Send(piece);
            }
        }

        target.GetAwaiter().GetResult();
    });

    private static SaveVmRegistry Registry(ISaveVmHandlers device)
    {
        var registry = new SaveVmRegistry();
        registry.Register("memory", 0, 1, device);
        return registry;
    }

    private sealed class Device : ISaveVmHandlers
    {
        private readonly byte[] _piece = new byte[Piece];
        private long _left = Total;

        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32(0);

        public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
        {
            for (; _left > 0 && !stream.BudgetExceeded; _left -= Piece)
            {
                stream.WriteUInt32(Piece);
                stream.Write(_piece);
            }

            stream.WriteUInt32(0);
            return _left == 0;
        }

        public PendingBytes StatePendingEstimate(SaveVmContext context) => new(_left);

        public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32(0);
    }

    private sealed class Sink : ISaveVmHandlers
    {
        private readonly byte[] _piece = new byte[Piece];

        public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
        {
            for (int length; (length = (int)stream.ReadUInt32()) > 0;)
            {
                stream.ReadExactly(_piece, 0, length);
            }
        }
    }
}
