using System.Globalization;
using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Cpr;

/// <summary>These change the process's limit of open files, and count all of its descriptors: nothing runs beside them.</summary>
[CollectionDefinition(nameof(DescriptorLimit), DisableParallelization = true)]
public sealed class DescriptorLimit;

[Collection(nameof(DescriptorLimit))]
public sealed class CprManyEntriesTests : IDisposable
{
    private readonly (long Soft, long Hard) _limit = ResourceLimit.GetOpenFiles();

    [Fact]
    public async Task Ten_thousand_entries_go_round_with_the_limit_raised_on_the_way()
    {
        const int Count = 10_000;
        ResourceLimit.TrySetOpenFiles(1024, _limit.Hard);
        using var warmUp = new CprPeer();
        CollectStrayDescriptors();
        int before = OpenDescriptors();
        using (var memory = CprPeer.Memory(out _))
        using (var peer = new CprPeer(seconds: 60))
        using (var scope = new TransferScope(TimeSpan.FromSeconds(60)))
        {
            // One descriptor under many keys: both ends of the channel are in one process here, and share its limit.
            CprEntry[] entries = [.. Enumerable.Range(0, Count)
                .Select(i => new CprEntry(CprName.Parse($"entry {i}"), i % 7, memory, received: false))];
            peer.Close();
            Assert.Throws<CprException>(peer.Receive);
            using var sender = CprSender.Connect(peer.Path, scope);
            var sending = Task.Run(() => sender.Send(entries, null));
            using var set = peer.Receive();
            await sending.WaitAsync(TimeSpan.FromSeconds(30));
            Assert.Equal(entries.Select(entry => (entry.Name, entry.Id)), set.Entries.Select(entry => (entry.Name, entry.Id)));
            Assert.True(OpenDescriptors() > Count);
            using var second = new CprFdRegistry();
            second.Fill(set);
            Assert.Equal(Count, second.Count);
        }

        Assert.Equal(before, OpenDescriptors());
    }

    [Fact]
    public void Descriptors_that_the_kernel_drops_are_an_error_that_names_the_limit_and_nothing_leaks()
    {
        using var memory = CprPeer.Memory(out _);
        using var peer = new CprPeer();
        peer.Send(CprBytes.Header());
        for (int i = 0; i < 40; i++)
        {
            peer.SendEntry("entry", i, memory);
        }

        using var fillers = new CprFdRegistry();
        int highest = HighestDescriptor();
        // The kernel gives out free numbers below the highest first.
        while (fillers.SaveFd(CprName.Parse("filler"), fillers.Count, memory).Number < highest)
        {
        }

        int before = OpenDescriptors();
        var error = Assert.Throws<CprException>(() =>
        {
            using var receiver = peer.Listener.Accept(CprListener.DefaultUsers, mayRaiseLimit: false);
            ResourceLimit.TrySetOpenFiles(highest + 10, _limit.Hard);
            receiver.Receive();
        });
        ResourceLimit.TrySetOpenFiles(_limit.Soft, _limit.Hard);
        Assert.Equal(CprError.DescriptorsLost, error.Reason);
        Assert.Contains($"{highest + 10:N0} open", error.Message);
        Assert.Contains("ulimit -n", error.RecommendedAction);
        Assert.Equal(before, OpenDescriptors());
    }

    [Fact]
    public void Registering_raises_the_limit_when_it_needs_to()
    {
        using var memory = CprPeer.Memory(out _);
        using var registry = new CprFdRegistry();
        ResourceLimit.TrySetOpenFiles(HighestDescriptor() + 10, _limit.Hard);
        for (int i = 0; i < 100; i++)
        {
            registry.SaveFd(CprName.Parse("entry"), i, memory);
        }

        Assert.Equal(100, registry.Count);
    }

    [Fact]
    public void Failed_hand_overs_leave_no_descriptor_open()
    {
        FailOnce();
        CollectStrayDescriptors();
        int before = OpenDescriptors();
        for (int i = 0; i < 20; i++)
        {
            FailOnce();
        }

        Assert.Equal(before, OpenDescriptors());

        static void FailOnce()
        {
            using var memory = CprPeer.Memory(out _);
            using var session = new CprSession();
            using var peer = new CprPeer();
            peer.Send(CprBytes.Header());
            peer.SendEntry("a", 0, memory);
            peer.Send([7]);
            Assert.Throws<CprException>(() => session.Receive(peer.Listener, CprListener.DefaultUsers));
            Assert.Equal(0, session.Registry.Count);
            Assert.False(session.HasIncoming);
        }
    }

    public void Dispose() => ResourceLimit.TrySetOpenFiles(_limit.Soft, _limit.Hard);

    // Other tests may have left some to the finalizers; ours are counted without one.
    private static void CollectStrayDescriptors()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
    }

    private static int HighestDescriptor()
        => Directory.GetFiles("/proc/self/fd").Max(path => int.Parse(Path.GetFileName(path), CultureInfo.InvariantCulture));

    private static int OpenDescriptors() => Directory.GetFiles("/proc/self/fd").Length;
}
