using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Cpr;

[Collection(nameof(DescriptorLimit))]
public class CprSessionTests
{
    [Fact]
    public void A_received_set_is_forwarded_byte_for_byte_and_the_source_waits_until_the_session_closes()
    {
        using var memory = CprPeer.Memory(out string unique);
        using var source = new CprPeer();
        SendTwo(source, memory);
        source.Send(CprBytes.Section("CprState/vfio devices", 1, 0));
        source.End();
        using var session = new CprSession();
        var received = session.Receive(source.Listener, CprListener.DefaultUsers);
        using var target = new CprPeer();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        target.Close();
        Assert.Throws<CprException>(target.Receive);
        var sender = session.Send(target.Path, session.Registry.Entries, CprStateLayout.AsReceived, allowLoss: false, scope);
        using (var set = target.Receive())
        {
            Assert.Equal(received.ByteCount, set.ByteCount);
            Assert.Equal(["b", "a"], set.Entries.Select(entry => entry.Name.ToString()));
            Assert.Empty(set.VfioDevices!);
        }

        sender.WaitForTakeover(scope.StartDeadline());
        Assert.True(session.HasIncoming);
        session.Close(keepEntries: false);
        Assert.True(source.SeesHangup());
        Assert.Equal(1, CprPeer.CountOpen(unique));
        Assert.Equal(0, session.Registry.Count);
    }

    [Fact]
    public void A_set_that_lost_an_entry_is_refused_before_anything_is_sent_unless_that_is_allowed()
    {
        using var memory = CprPeer.Memory(out _);
        using var source = new CprPeer();
        SendTwo(source, memory);
        source.End();
        using var session = new CprSession();
        session.Receive(source.Listener, CprListener.DefaultUsers);
        session.Registry.DeleteFd(CprName.Parse("a"), 0);
        using var target = new CprPeer();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var error = Assert.Throws<CprException>(
            () => session.Send(target.Path, session.Registry.Entries, CprStateLayout.AsReceived, allowLoss: false, scope));
        Assert.Equal(CprError.EntriesLost, error.Reason);
        Assert.Contains("lacks 1 of the 2 received entries: 'a', id 0", error.Message);
        Assert.False(session.HasOutgoing);
        target.Close();
        Assert.Throws<CprException>(target.Receive);
        session.Send(target.Path, session.Registry.Entries, CprStateLayout.AsReceived, allowLoss: true, scope);
        using var set = target.Receive();
        Assert.Equal(["b"], set.Entries.Select(entry => entry.Name.ToString()));
    }

    [Fact]
    public void An_entry_may_be_added_to_a_received_set()
    {
        using var memory = CprPeer.Memory(out _);
        using var source = new CprPeer();
        SendTwo(source, memory);
        source.End();
        using var session = new CprSession();
        session.Receive(source.Listener, CprListener.DefaultUsers);
        session.Registry.SaveFd(CprName.Parse("added"), 2, memory);
        Assert.Empty(session.FindLost(session.Registry.Entries));
        Assert.Equal(["added", "b", "a"], session.Registry.Entries.Select(entry => entry.Name.ToString()));
    }

    [Fact]
    public void Vfio_devices_are_not_left_behind_unless_that_is_allowed()
    {
        using var memory = CprPeer.Memory(out _);
        using var source = new CprPeer();
        SendTwo(source, memory);
        source.Send(CprBytes.Section("CprState/vfio devices", 1, [1, 0, 0, 0, 2, (byte)'d', 0, .. new byte[12], 0]));
        source.End();
        using var session = new CprSession();
        session.Receive(source.Listener, CprListener.DefaultUsers);
        using var target = new CprPeer();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var error = Assert.Throws<CprException>(
            () => session.Send(target.Path, session.Registry.Entries, CprStateLayout.Qemu100, allowLoss: false, scope));
        Assert.Equal(CprError.EntriesLost, error.Reason);
        Assert.Contains("'d'", error.Message);
        target.Close();
        Assert.Throws<CprException>(target.Receive);
        session.Send(target.Path, session.Registry.Entries, CprStateLayout.AsReceived, allowLoss: false, scope);
        using var set = target.Receive();
        Assert.Equal("d", Assert.Single(set.VfioDevices!).Name.ToString());
    }

    [Fact]
    public void A_second_set_with_the_same_keys_leaves_the_first_as_it_was_and_frees_its_source()
    {
        using var memory = CprPeer.Memory(out string unique);
        using var session = new CprSession();
        session.Registry.SaveFd(CprName.Parse("b"), 0, memory);
        using var source = new CprPeer();
        SendTwo(source, memory);
        source.End();
        var error = Assert.Throws<CprException>(() => session.Receive(source.Listener, CprListener.DefaultUsers));
        Assert.Equal(CprError.DuplicateEntry, error.Reason);
        Assert.Equal(1, session.Registry.Count);
        Assert.True(source.SeesHangup());
        Assert.Equal(2, CprPeer.CountOpen(unique));
    }

    [Fact]
    public void There_is_one_source_and_one_target_at_a_time_and_never_nothing_to_send()
    {
        using var memory = CprPeer.Memory(out _);
        using var source = new CprPeer();
        SendTwo(source, memory);
        source.End();
        using var session = new CprSession();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        Assert.Equal(CprError.NothingToDo, Assert.Throws<CprException>(
            () => session.Send(source.Path, [], CprStateLayout.AsReceived, allowLoss: false, scope)).Reason);
        session.Receive(source.Listener, CprListener.DefaultUsers);
        Assert.Equal(CprError.NothingToDo, Assert.Throws<CprException>(
            () => session.Receive(source.Listener, CprListener.DefaultUsers)).Reason);
        session.SendExec(session.Registry.Entries, allowLoss: false);
        Assert.Equal(CprError.NothingToDo, Assert.Throws<CprException>(
            () => session.Send(source.Path, session.Registry.Entries, CprStateLayout.AsReceived, allowLoss: false, scope)).Reason);
    }

    private static void SendTwo(CprPeer source, Microsoft.Win32.SafeHandles.SafeFileHandle memory)
    {
        source.Send(CprBytes.Header());
        source.SendEntry("b", 0, memory);
        source.SendEntry("a", 0, memory);
        source.Send([0]);
    }
}
