using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;
using static MigrationOps.Engine.Tests.Cpr.CprBytes;

namespace MigrationOps.Engine.Tests.Cpr;

public class CprChannelTests
{
    [Fact]
    public void Entries_arrive_in_order_with_their_descriptors_and_are_close_on_exec()
    {
        using var first = CprPeer.Memory(out string firstName);
        using var second = CprPeer.Memory(out string secondName, size: 12288);
        using var registry = new CprFdRegistry();
        registry.SaveFd(CprName.Parse("first"), 0, first);
        registry.SaveFd(CprName.Parse(@"sec\xffond"), -5, second);
        using var peer = new CprPeer();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        peer.Close();
        using (var sender = CprSender.Connect(peer.Path, scope))
        {
            sender.Send(registry.Entries, null);
            // The peer of the fixture connected first, and left.
            Assert.Equal(CprError.Truncated, Assert.Throws<CprException>(peer.Receive).Reason);
            using var receiver = peer.Listener.Accept(CprListener.DefaultUsers);
            using var set = receiver.Receive();
            Assert.Equal([(@"sec\xffond", -5), ("first", 0)], set.Entries.Select(entry => (entry.Name.ToString(), entry.Id)));
            Assert.Equal([$"/memfd:{secondName} (deleted)", $"/memfd:{firstName} (deleted)"],
                set.Entries.Select(entry => CprFdInspector.Describe(entry).Target));
            Assert.All(set.Entries, entry => Assert.True(Fcntl.IsCloseOnExec(entry.Handle)));
            Assert.Equal(sender.ByteCount, set.ByteCount);
            Assert.Equal(3, CprPeer.CountOpen(firstName));
        }

        Assert.Equal(2, CprPeer.CountOpen(firstName));
    }

    [Fact]
    public void The_sender_sees_the_takeover_only_when_the_receiver_closes()
    {
        using var memory = CprPeer.Memory(out _);
        using var registry = new CprFdRegistry();
        registry.SaveFd(CprName.Parse("a"), 0, memory);
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var peer = new CprPeer();
        using var sender = CprSender.Connect(peer.Path, scope);
        sender.Send(registry.Entries, []);
        peer.Close();
        Assert.Throws<CprException>(peer.Receive);
        var receiver = peer.Listener.Accept(CprListener.DefaultUsers);
        receiver.Receive().Dispose();
        var timeout = Assert.Throws<WireException>(() => sender.WaitForTakeover(new Deadline(TimeSpan.FromMilliseconds(50))));
        Assert.Equal(WireError.Timeout, timeout.Reason);
        receiver.Dispose();
        sender.WaitForTakeover(scope.StartDeadline());
    }

    [Fact]
    public void A_receiver_that_closes_without_reading_has_not_taken_over()
    {
        using var memory = CprPeer.Memory(out _);
        using var registry = new CprFdRegistry();
        registry.SaveFd(CprName.Parse("a"), 0, memory);
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var peer = new CprPeer();
        peer.Close();
        using var sender = CprSender.Connect(peer.Path, scope);
        sender.Send(registry.Entries, null);
        Assert.Throws<CprException>(peer.Receive);
        peer.Listener.Accept(CprListener.DefaultUsers).Dispose();
        var error = Assert.Throws<CprException>(() => sender.WaitForTakeover(scope.StartDeadline()));
        Assert.Equal(CprError.NotTakenOver, error.Reason);
    }

    [Fact]
    public void A_receiver_that_closes_while_entries_are_sent_is_named_with_how_far_it_came()
    {
        using var memory = CprPeer.Memory(out _);
        using var registry = new CprFdRegistry();
        registry.SaveFd(CprName.Parse("a"), 0, memory);
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var peer = new CprPeer();
        peer.Close();
        using var sender = CprSender.Connect(peer.Path, scope);
        Assert.Throws<CprException>(peer.Receive);
        peer.Listener.Accept(CprListener.DefaultUsers).Dispose();
        var error = Assert.Throws<CprException>(() => sender.Send(registry.Entries, null));
        Assert.Equal(CprError.NotTakenOver, error.Reason);
        Assert.Contains("after 0 of 1 entries", error.Message);
    }

    [Fact]
    public void All_descriptors_in_one_message_are_claimed_in_order()
    {
        using var first = CprPeer.Memory(out string firstName);
        using var second = CprPeer.Memory(out string secondName);
        using var peer = new CprPeer();
        peer.Send(Join(Header(), Element("a\0", 0), Element("b\0", 0), [0]), first, second);
        peer.End();
        using var set = peer.Receive();
        Assert.Equal([firstName, secondName], set.Entries.Select(entry =>
            CprFdInspector.Describe(entry).Target["/memfd:".Length..^" (deleted)".Length]));
    }

    [Fact]
    public void An_entry_without_its_descriptor_is_an_error_and_nothing_leaks()
    {
        using var memory = CprPeer.Memory(out string unique);
        using var peer = new CprPeer();
        peer.Send(Header());
        peer.SendEntry("a", 0, memory);
        peer.Send(Join(Element("b\0", 4), [0]));
        peer.End();
        var error = Assert.Throws<CprException>(peer.Receive);
        Assert.Equal(CprError.MissingDescriptor, error.Reason);
        Assert.Contains("'b', id 4", error.Message);
        Assert.Equal(1, CprPeer.CountOpen(unique));
    }

    [Fact]
    public void A_descriptor_that_no_entry_claims_is_an_error_and_nothing_leaks()
    {
        using var memory = CprPeer.Memory(out string unique);
        using var peer = new CprPeer();
        peer.Send(Header());
        peer.SendEntry("a", 0, memory);
        peer.Send([0], memory, memory);
        peer.End();
        var error = Assert.Throws<CprException>(peer.Receive);
        Assert.Equal(CprError.UnclaimedDescriptors, error.Reason);
        Assert.Contains("3 descriptors came for 1 entries", error.Message);
        Assert.Equal(1, CprPeer.CountOpen(unique));
    }

    [Theory]
    [MemberData(nameof(CprStateWalkerTests.Malformed), MemberType = typeof(CprStateWalkerTests))]
    public void A_malformed_state_closes_the_descriptors_that_came_with_it(string what, byte[] bytes, CprError expected, long offset)
    {
        if (bytes.Length == 0)
        {
            bytes = [0x51];
            offset = 1;
        }

        using var memory = CprPeer.Memory(out string unique);
        using var peer = new CprPeer();
        peer.Send(bytes, [.. Enumerable.Repeat(memory, 4)]);
        peer.End();
        var error = Assert.Throws<CprException>(peer.Receive);
        Assert.True((expected, (long?)offset) == (error.Reason, error.ByteOffset), $"{what}: {error.Message}");
        Assert.Equal(1, CprPeer.CountOpen(unique));
    }

    [Fact]
    public void A_peer_that_says_nothing_runs_into_the_deadline()
    {
        using var peer = new CprPeer(seconds: 0.2);
        var error = Assert.Throws<WireException>(peer.Receive);
        Assert.Equal(WireError.Timeout, error.Reason);
        Assert.Contains("the CPR state", error.Message);
    }

    [Fact]
    public void A_peer_that_never_ends_its_state_runs_into_the_deadline_and_nothing_leaks()
    {
        using var memory = CprPeer.Memory(out string unique);
        using var peer = new CprPeer(seconds: 0.2);
        peer.Send(Header());
        peer.SendEntry("a", 0, memory);
        peer.Send([0]);
        Assert.Equal(WireError.Timeout, Assert.Throws<WireException>(peer.Receive).Reason);
        Assert.Equal(1, CprPeer.CountOpen(unique));
    }

    [Fact]
    public void A_peer_of_another_user_is_turned_away_before_anything_is_read()
    {
        using var memory = CprPeer.Memory(out string unique);
        using var peer = new CprPeer();
        peer.Send("not even a header"u8, memory);
        uint other = ProcessCalls.GetEffectiveUserId() + 4242;
        var error = Assert.Throws<CprException>(() => peer.Listener.Accept([other]));
        Assert.Equal(CprError.PeerNotAllowed, error.Reason);
        Assert.Contains($"allowed are the users {other}", error.Message);
        Assert.True(peer.SeesHangup());
        Assert.Equal(1, CprPeer.CountOpen(unique));
    }

    [Fact]
    public async Task Cancelling_ends_the_wait_for_a_takeover_at_once()
    {
        using var memory = CprPeer.Memory(out _);
        using var registry = new CprFdRegistry();
        registry.SaveFd(CprName.Parse("a"), 0, memory);
        using var cancellation = new CancellationTokenSource();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), cancellation.Token);
        using var peer = new CprPeer();
        using var sender = CprSender.Connect(peer.Path, scope);
        sender.Send(registry.Entries, null);
        var waiting = Task.Run(() => sender.WaitForTakeover(scope.StartDeadline()));
        await cancellation.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting.WaitAsync(TimeSpan.FromSeconds(5)));
    }

    [Fact]
    public void A_set_with_a_closed_descriptor_or_a_key_twice_is_refused_before_anything_is_sent()
    {
        using var memory = CprPeer.Memory(out _);
        using var registry = new CprFdRegistry();
        registry.SaveFd(CprName.Parse("a"), 0, memory);
        var twice = registry.SaveFd(CprName.Parse("a"), 0, memory);
        Assert.Equal(CprError.DuplicateEntry, Assert.Throws<CprException>(() => CprSender.Check(registry.Entries)).Reason);
        using var pipe = Pipe.Create().Read;
        CprFdRegistryTests.Replace(pipe, twice);
        Assert.Equal(CprError.DescriptorClosed, Assert.Throws<CprException>(() => CprSender.Check(registry.Entries)).Reason);
    }
}
