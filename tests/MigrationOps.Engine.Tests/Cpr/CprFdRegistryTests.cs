using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Tests.Cpr;

public partial class CprFdRegistryTests
{
    private static readonly CprName s_ram = CprName.Parse("pc.ram");

    [Fact]
    public void The_registry_owns_a_close_on_exec_duplicate_of_what_is_registered()
    {
        using var memory = CprPeer.Memory(out string unique);
        using (var registry = new CprFdRegistry())
        {
            var entry = registry.SaveFd(s_ram, 3, memory);
            Assert.True(Fcntl.IsCloseOnExec(entry.Handle));
            Assert.Equal(2, CprPeer.CountOpen(unique));
            memory.Dispose();
            Assert.Equal(1, CprPeer.CountOpen(unique));
            entry.Verify();
        }

        Assert.Equal(0, CprPeer.CountOpen(unique));
    }

    [Fact]
    public void Find_and_delete_take_the_newest_of_a_key_and_entries_come_newest_first()
    {
        using var registry = new CprFdRegistry();
        using var memory = CprPeer.Memory(out _);
        var oldest = registry.SaveFd(s_ram, 0, memory);
        var other = registry.SaveFd(s_ram, 1, memory);
        var newest = registry.SaveFd(s_ram, 0, memory);
        Assert.Equal([newest, other, oldest], registry.Entries);
        Assert.Same(newest, registry.FindFd(s_ram, 0));
        Assert.True(registry.DeleteFd(s_ram, 0));
        Assert.True(newest.Handle.IsClosed);
        Assert.Same(oldest, registry.FindFd(s_ram, 0));
        Assert.True(registry.DeleteFd(s_ram, 0));
        Assert.Null(registry.FindFd(s_ram, 0));
        Assert.False(registry.DeleteFd(s_ram, 0));
        Assert.Equal([other], registry.Entries);
    }

    [Fact]
    public void A_number_that_is_not_open_is_refused_and_the_registry_stays_as_it_was()
    {
        using var registry = new CprFdRegistry();
        var error = Assert.Throws<CprException>(() => registry.SaveFd(s_ram, 0, 987_654));
        Assert.Equal(CprError.DescriptorClosed, error.Reason);
        Assert.Contains("987654", error.Message);
        Assert.Equal(0, registry.Count);
    }

    [Fact]
    public void A_descriptor_that_was_closed_meanwhile_is_found_out_and_not_closed_a_second_time()
    {
        using var registry = new CprFdRegistry();
        using var memory = CprPeer.Memory(out _);
        var entry = registry.SaveFd(s_ram, 0, memory);
        using var pipe = Pipe.Create().Read;
        // Puts a pipe where the registry's descriptor was, in one step, so that no other test gets the number.
        Replace(pipe, entry);
        var error = Assert.Throws<CprException>(entry.Verify);
        Assert.Equal(CprError.DescriptorClosed, error.Reason);
        Assert.Contains("'pc.ram', id 0", error.Message);
        int number = (int)entry.Handle.DangerousGetHandle();
        registry.DeleteFd(s_ram, 0);
        using var stranger = new SafeFileHandle(number, true);
        Assert.NotNull(FileStatus.TryGet(stranger));
    }

    [Fact]
    public void A_set_with_a_key_that_is_there_already_fills_nothing()
    {
        using var registry = new CprFdRegistry();
        using var memory = CprPeer.Memory(out string unique);
        registry.SaveFd(s_ram, 0, memory);
        using var set = new CprSet([Entry("new", memory), Entry("pc.ram", memory)], null, 0);
        Assert.Equal(CprError.DuplicateEntry, Assert.Throws<CprException>(() => registry.Fill(set)).Reason);
        Assert.Equal(1, registry.Count);
        Assert.Equal(4, CprPeer.CountOpen(unique));
        set.Dispose();
        Assert.Equal(2, CprPeer.CountOpen(unique));
    }

    [Fact]
    public void A_set_keeps_its_order_in_front_of_what_was_registered_before()
    {
        using var registry = new CprFdRegistry();
        using var memory = CprPeer.Memory(out _);
        registry.SaveFd(s_ram, 0, memory);
        using var set = new CprSet([Entry("b", memory), Entry("a", memory)], null, 0);
        registry.Fill(set);
        Assert.Equal(["b", "a", "pc.ram"], registry.Entries.Select(entry => entry.Name.ToString()));
    }

    [Fact]
    public void An_entry_is_described_by_what_its_descriptor_is()
    {
        using var registry = new CprFdRegistry();
        using var memory = CprPeer.Memory(out string unique, size: 8192);
        var described = CprFdInspector.Describe(registry.SaveFd(s_ram, 0, memory));
        Assert.Equal(CprFdKind.MemFd, described.Kind);
        Assert.Equal(8192, described.Size);
        Assert.Equal($"/memfd:{unique} (deleted)", described.Target);
        Assert.Equal(FileAccess.ReadWrite, described.Access);
        Assert.Empty(described.Seals);
        Assert.False(described.Received);

        using var counter = EventFd.Create();
        Assert.Equal(CprFdKind.EventFd, CprFdInspector.Describe(registry.SaveFd(s_ram, 1, counter)).Kind);
        using var device = OpenFile.Existing("/dev/null", FileAccess.Write);
        var nothing = CprFdInspector.Describe(registry.SaveFd(s_ram, 2, device));
        Assert.Equal((CprFdKind.CharacterDevice, FileAccess.Write), (nothing.Kind, nothing.Access));
        using var pipe = Pipe.Create().Write;
        Assert.Equal(CprFdKind.Pipe, CprFdInspector.Describe(registry.SaveFd(s_ram, 3, pipe)).Kind);
    }

    private static CprEntry Entry(string name, SafeFileHandle handle)
        => new CprEntry(CprName.Parse(name), 0, Fcntl.Duplicate(handle, name), received: true);

    [LibraryImport("libc", EntryPoint = "dup3", SetLastError = true)]
    private static partial int Dup3(int from, int to, int flags);

    internal static void Replace(SafeFileHandle by, CprEntry entry)
        => NativeError.Check(Dup3((int)by.DangerousGetHandle(), (int)entry.Handle.DangerousGetHandle(), 0x80000), "dup3", "test");
}
