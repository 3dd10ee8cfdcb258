using System.Diagnostics;
using System.Net.Sockets;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vhost;

public sealed class VhostBackendTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly string _path;

    public VhostBackendTests() => _path = _folder["s"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_back_end_serves_one_front_end_after_the_other_and_ends_with_its_socket_file()
    {
        var state = new MemoryBackendState(new byte[] { 1, 2, 3 });
        using (var backend = Transfers.Backend(_path, state))
        {
            Assert.True(backend.IsRunning);
            for (int i = 1; i <= 3; i++)
            {
                Assert.Equal(3, Transfers.Save(_path, new Endpoint.File(_folder["f"])).Bytes);
                Assert.Equal((i, 3L * i), (backend.Connections, backend.BytesSaved));
            }

            backend.Dispose();
            Assert.False(backend.IsRunning);
        }

        Assert.Equal(["f", "f.json"], _folder.Entries);
    }

    [Theory]
    [InlineData("a front-end that says nothing of the protocol")]
    [InlineData("\u0001\0\0\0\u0002\0\0\0\0\0\0\0")]
    [InlineData("\u0001\0\0\0\u0001\0\0\0\u007f\u007f\u007f\u007f")]
    [InlineData("*\0\0\0\u0001\0\0\0\u0008\0\0\0\0\0\0\0\0\0\0\0")]
    [InlineData("\u0001\0\0")]
    public void A_front_end_that_misbehaves_loses_its_connection_and_the_next_is_served(string bytes)
    {
        using var backend = Transfers.Backend(_path, new MemoryBackendState(new byte[3]));
        using (var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            socket.Connect(new UnixDomainSocketEndPoint(_path));
            socket.Send(System.Text.Encoding.Latin1.GetBytes(bytes));
            socket.Shutdown(SocketShutdown.Send);
            Assert.Equal(0, Drain(socket));
        }

        Assert.Equal(3, Transfers.Save(_path, new Endpoint.File(_folder["f"])).Bytes);
    }

    [Theory]
    [InlineData(2, 0)]
    [InlineData(0, 1)]
    public void An_unknown_direction_or_phase_ends_the_connection_as_real_back_ends_do(int direction, int phase)
    {
        using var backend = Transfers.Backend(_path, new MemoryBackendState(new byte[3]));
        using var scope = new TransferScope(Waiting.Patience);
        using var connection = Transport.ConnectUnix(_path, scope);
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        {
            byte[] payload = [(byte)direction, 0, 0, 0, (byte)phase, 0, 0, 0];
            connection.Send(VhostUserHeader.Compose(VhostUserRequest.SetDeviceStateFd, 1, payload), [write], scope.StartDeadline(), "m");
        }

        using var received = new FdQueue();
        Assert.False(connection.TryReceiveExactly(new byte[12], received, scope.StartDeadline(), "a reply"));
    }

    [Fact]
    public void A_check_without_a_transfer_is_answered_with_failure()
    {
        using var backend = Transfers.Backend(_path, new MemoryBackendState(new byte[3]));
        using var scope = new TransferScope(Waiting.Patience);
        using var connection = Transport.ConnectUnix(_path, scope);
        connection.Send(VhostUserHeader.Compose(VhostUserRequest.CheckDeviceState, 1, default), default, scope.StartDeadline(), "m");
        using var received = new FdQueue();
        byte[] reply = new byte[20];
        Assert.True(connection.TryReceiveExactly(reply, received, scope.StartDeadline(), "a reply"));
        Assert.Equal(1, reply[12]);
    }

    [Fact]
    public void A_state_that_is_not_acceptable_is_told_at_the_check_and_the_old_one_stays()
    {
        using var backend = Transfers.Backend(_path, new PatternBackendState(3000));
        States.Save(_folder["f"], States.RandomBytes(3000));
        var e = Assert.Throws<VhostException>(() => Transfers.Load(_path, new Endpoint.File(_folder["f"])));
        Assert.Equal(VhostError.CheckFailed, e.Reason);
        var small = new MemoryBackendState(new byte[] { 7 }, limit: 100);
        using var limited = Transfers.Backend(_folder["t"], small);
        Assert.Equal(VhostError.CheckFailed,
            Assert.Throws<VhostException>(() => Transfers.Load(_folder["t"], new Endpoint.File(_folder["f"]))).Reason);
        Assert.Equal(new byte[] { 7 }, small.Content.ToArray());
    }

    [Theory]
    [InlineData(VhostTransferDirection.Save)]
    [InlineData(VhostTransferDirection.Load)]
    public void Whatever_a_state_source_or_sink_throws_is_a_failed_check_and_not_the_end_of_the_process(VhostTransferDirection direction)
    {
        States.Save(_folder["f"], [1, 2, 3]);
        using var backend = Transfers.Backend(_path, new ThrowingState());
        for (int i = 0; i < 2; i++)
        {
            Assert.Equal(VhostError.CheckFailed,
                Assert.Throws<VhostException>(() => Transfers.Run(direction, _path, _folder["f"])).Reason);
        }

        Assert.Equal(2, backend.Connections);
    }

    [Fact]
    public void A_state_in_a_file_is_saved_from_it_and_replaced_in_it()
    {
        File.WriteAllBytes(_folder["state"], [5, 6, 7]);
        using var backend = Transfers.Backend(_path, new FileBackendState(_folder["state"]));
        Assert.Equal(3, Transfers.Save(_path, new Endpoint.File(_folder["f"])).Bytes);
        States.Save(_folder["g"], States.RandomBytes(70_000));
        Transfers.Load(_path, new Endpoint.File(_folder["g"]));
        Assert.Equal(States.RandomBytes(70_000), File.ReadAllBytes(_folder["state"]));
        File.Delete(_folder["state"]);
        Assert.Equal(VhostError.CheckFailed,
            Assert.Throws<VhostException>(() => Transfers.Save(_path, new Endpoint.File(_folder["f"]))).Reason);
    }

    [Fact]
    public void A_load_that_is_broken_off_leaves_the_file_of_a_back_end_as_it_was()
    {
        File.WriteAllBytes(_folder["state"], [5, 6, 7]);
        using var backend = Transfers.Backend(_path, new FileBackendState(_folder["state"]),
            new VhostBackendFault(VhostBackendFaultKind.FailAtByte, 10));
        States.Save(_folder["g"], States.RandomBytes(1000));
        Assert.Throws<VhostException>(() => Transfers.Load(_path, new Endpoint.File(_folder["g"])));
        Assert.Equal(new byte[] { 5, 6, 7 }, File.ReadAllBytes(_folder["state"]));
        Assert.Equal(["g", "g.json", "s", "state"], _folder.Entries);
    }

    [Theory]
    [InlineData(VhostBackendFaultKind.NoReply)]
    [InlineData(VhostBackendFaultKind.Stall)]
    public void A_back_end_that_is_stopped_in_the_middle_ends_at_once_and_frees_its_front_end(VhostBackendFaultKind kind)
    {
        var backend = Transfers.Backend(_path, new PatternBackendState(8 << 20), new VhostBackendFault(kind, 1000));
        var transfer = Waiting.OnThread(() => Record.Exception(
            () => Transfers.Save(_path, new Endpoint.File(_folder["f"]), Timeout.InfiniteTimeSpan)));
        Waiting.Until(() => backend.Connections == 1, "the connection");
        var clock = Stopwatch.StartNew();
        backend.Dispose();
        Assert.InRange(clock.Elapsed.TotalSeconds, 0, 40);
        Assert.Equal(VhostError.Disconnected, Assert.IsType<VhostException>(transfer.Result("the transfer")).Reason);
        Assert.Empty(_folder.Entries);
    }

    [Fact]
    public void A_path_that_is_taken_is_an_error_and_the_first_back_end_goes_on()
    {
        using var first = Transfers.Backend(_path, new MemoryBackendState(new byte[3]));
        var e = Assert.Throws<WireException>(() => Transfers.Backend(_path, new MemoryBackendState(new byte[3])));
        Assert.Equal(WireError.ListenFailed, e.Reason);
        Assert.Equal(3, Transfers.Save(_path, new Endpoint.File(_folder["f"])).Bytes);
    }

    [Fact]
    public void A_probe_reports_check_by_check()
    {
        using var scope = new TransferScope(Waiting.Patience);
        using (Transfers.Backend(_path, new MemoryBackendState(new byte[108])))
        {
            var report = VhostProbe.Test(_path, roundTrip: true, scope);
            Assert.True(report.Passed);
            Assert.Equal(["Connect", "Negotiation", "DeviceStateFeature", "Save", "BackendCheck"], report.Checks.Select(c => c.Name));
            Assert.StartsWith("108 bytes in ", report.Checks[3].Detail);
            Assert.Equal(3, VhostProbe.Test(_path, roundTrip: false, scope).Checks.Length);
            var info = VhostProbe.Describe(_path, scope);
            Assert.True(info.DeviceState);
            Assert.Equal(Environment.ProcessId, info.PeerPid);
        }

        using (Transfers.Backend(_path, new MemoryBackendState(new byte[108]), new VhostBackendFault(VhostBackendFaultKind.FailCheck)))
        {
            var failed = VhostProbe.Test(_path, roundTrip: true, scope).Checks[^1];
            Assert.Equal(("BackendCheck", false), (failed.Name, failed.Passed));
            Assert.NotEmpty(failed.RecommendedAction);
        }

        var unreachable = VhostProbe.Test(_path, roundTrip: true, scope);
        Assert.Equal(("Connect", false), (unreachable.Checks.Single().Name, unreachable.Passed));
    }

    private static int Drain(Socket socket)
    {
        // Only the reply to a request that was well-formed may come before the end.
        byte[] buffer = new byte[256];
        while (true)
        {
            try
            {
                if (socket.Receive(buffer) == 0)
                {
                    return 0;
                }
            }
            catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
            {
                return 0;
            }
        }
    }

    private sealed class ThrowingState : BackendState
    {
        public override void WriteTo(Stream channel) => throw new NotSupportedException("not today");

        public override void ReadFrom(Stream channel) => throw new IOException("not here");
    }
}
