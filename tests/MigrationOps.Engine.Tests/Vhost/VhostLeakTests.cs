using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vhost;

[Collection(Alone.Name)]
public sealed class VhostLeakTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_thousand_failures_leave_no_descriptor_no_thread_and_no_file_behind()
    {
        Action[] failures = [.. Faults().Select(fault => (Action)(() => FailInBothDirections(fault))), .. OtherFailures()];

        // Once before counting: the runtime opens things of its own at first use.
        Array.ForEach(failures, fail => fail());
        GC.Collect();
        GC.WaitForPendingFinalizers();
        foreach (var fail in failures)
        {
            AssertClosesEverythingItself(fail);
        }

        string[] files = _folder.Entries;
        int descriptors = ProcessUse.Descriptors;
        int threads = ProcessUse.EngineThreads;
        int count = 0;
        while (count < 1000)
        {
            foreach (var fail in failures)
            {
                fail();
                count++;
            }
        }

        ProcessUse.AssertReturnsTo(descriptors, () => ProcessUse.Descriptors, "open descriptors");
        ProcessUse.AssertReturnsTo(threads, () => ProcessUse.EngineThreads, "threads of the engine");
        Assert.Equal(files, _folder.Entries);
    }

    private static IEnumerable<VhostBackendFault> Faults()
    {
        foreach (var kind in Enum.GetValues<VhostBackendFaultKind>())
        {
            if (kind != VhostBackendFaultKind.None)
            {
                yield return new VhostBackendFault(kind, 1000);
            }
        }

        yield return new VhostBackendFault(VhostBackendFaultKind.Hangup, AtRequest: VhostUserRequest.CheckDeviceState);
        yield return new VhostBackendFault(VhostBackendFaultKind.WrongSize, AtRequest: VhostUserRequest.GetFeatures);
    }

    // Without a collection, so that a handle that only its finalizer would close counts as leaked.
    private static void AssertClosesEverythingItself(Action fail)
    {
        int descriptors = ProcessUse.Descriptors;
        Assert.True(GC.TryStartNoGCRegion(128 << 20));
        try
        {
            fail();
            ProcessUse.AssertReturnsTo(descriptors, () => ProcessUse.Descriptors, "open descriptors after one failure");
        }
        finally
        {
            GC.EndNoGCRegion();
        }
    }

    private static void Fails(Action action) => Assert.IsAssignableFrom<MigrationOpsException>(Record.Exception(action));

    private void FailInBothDirections(VhostBackendFault fault)
    {
        if (!File.Exists(_folder["f"]))
        {
            States.Save(_folder["f"], States.RandomBytes(5000));
        }

        bool own = fault.Kind is VhostBackendFaultKind.Close or VhostBackendFaultKind.FailAtByte;
        using var backend = Transfers.Backend(_folder["s"], new MemoryBackendState(new byte[5000]), fault, own);
        var timeout = TimeSpan.FromMilliseconds(fault.Kind is VhostBackendFaultKind.Stall or VhostBackendFaultKind.NoReply ? 15 : 20_000);
        Fails(() => Transfers.Save(_folder["s"], new Endpoint.File(_folder["f"]), timeout));
        Fails(() => Transfers.Load(_folder["s"], new Endpoint.File(_folder["f"]), timeout));
    }

    private IEnumerable<Action> OtherFailures()
    {
        yield return () => Fails(() => Transfers.Save(_folder["absent"], new Endpoint.File(_folder["g"])));
        yield return () =>
        {
            using var backend = Transfers.Backend(_folder["s"], new MemoryBackendState(new byte[10]));
            Fails(() => Transfers.Save(_folder["s"], new Endpoint.File(_folder["absent/g"])));
            Fails(() => Transfers.Save(_folder["s"], new Endpoint.Fd(999_999)));
            Fails(() => Transfers.Load(_folder["s"], new Endpoint.File(_folder["absent"])));
            Fails(() => Transfers.Load(_folder["s"], new Endpoint.Unix(_folder["l"]), TimeSpan.FromMilliseconds(5)));
            Fails(() => Transfers.Backend(_folder["s"], new MemoryBackendState(new byte[10])));
        };
        yield return () =>
        {
            // The sender is cut in the middle of the data.
            using var backend = Transfers.Backend(_folder["s"], new MemoryBackendState(new byte[10]));
            using var scope = new TransferScope(Waiting.Patience);
            var receiving = Transfers.Receive(Transfers.Options(_folder["s"], new Endpoint.Tcp("127.0.0.1", 0)), scope, out var listening);
            using (var sender = Transport.Connect(listening, TransportSecurity.Default, scope))
            {
                sender.Write(States.Container([new byte[500]]).AsSpan(0, 300));
            }

            Assert.Throws<StateFileException>(() => receiving.Result("the receiver"));
        };
        yield return () =>
        {
            // Cancelled in the middle.
            using var backend = Transfers.Backend(_folder["s"], new MemoryBackendState(new byte[5000]),
                new VhostBackendFault(VhostBackendFaultKind.Stall, 1000));
            using var cancel = new CancellationTokenSource();
            var transfer = Waiting.OnThread(() => Record.Exception(() => Transfers.Save(
                _folder["s"], new Endpoint.File(_folder["g"]), Timeout.InfiniteTimeSpan, cancellationToken: cancel.Token)));
            Waiting.Until(() => backend.BytesSaved == 1000, "the middle");
            cancel.Cancel();
            Assert.IsAssignableFrom<OperationCanceledException>(transfer.Result("the transfer"));
        };
    }
}
