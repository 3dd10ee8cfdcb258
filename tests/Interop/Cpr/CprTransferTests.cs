using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Cpr;

public class CprTransferTests
{
    [Fact]
    public void A_source_hands_over_the_very_descriptors_that_proc_shows_and_keeps_its_guest_when_cancelled()
    {
        using var guest = new CprGuest();
        var source = guest.StartSource();
        using var session = new CprSession();
        var entries = guest.Receive(source, session);
        Assert.Equal(source.Id, session.Incoming!.Peer.Pid);
        Assert.All(entries, entry => Assert.Equal(0, entry.Id));
        string[] names = [.. entries.Select(entry => entry.Name.ToString())];
        Assert.All(["m0", "pc.bios", "pc.rom", "/rom@etc/acpi/tables", "/rom@etc/table-loader"], name => Assert.Contains(name, names));

        var open = Directory.GetFiles($"/proc/{source.Id}/fd").Select(path => (
            Target: new FileInfo(path).LinkTarget!, Inode: ReadInode(path.Replace("/fd/", "/fdinfo/", StringComparison.Ordinal)))).ToHashSet();
        foreach (var described in entries.Select(CprFdInspector.Describe))
        {
            Assert.Contains((described.Target, described.Inode), open);
            Assert.Equal((CprFdKind.MemFd, FileAccess.ReadWrite, true), (described.Kind, described.Access, described.Received));
            string memory = described.Name == "m0" ? "memory-backend-memfd" : described.Name;
            Assert.Equal($"/memfd:{memory} (deleted)", described.Target);
        }

        Assert.Equal(64 << 20, CprFdInspector.Describe(entries.Single(entry => entry.Name.ToString() == "m0")).Size);
        Assert.Equal("setup", source.MigrationStatus);
        source.Command("migrate_cancel");
        session.Close(keepEntries: false);
        Assert.Equal("cancelled", source.MigrationStatus);
        ulong counter = CprGuest.ReadCounter(source);
        source.WaitUntil(() => CprGuest.ReadCounter(source) > counter, "the guest counts on");
    }

    [Fact]
    public void A_set_forwarded_to_a_new_qemu_carries_the_guest_over()
    {
        using var guest = new CprGuest();
        var source = guest.StartSource();
        var target = guest.StartTarget();
        using var session = new CprSession();
        guest.Receive(source, session);
        guest.Forward(session, session.Registry.Entries);
        target.ConnectMonitor();
        Assert.Equal("inmigrate", target.Status);
        Assert.Equal("setup", source.MigrationStatus);
        ulong before = CprGuest.ReadCounter(source);

        session.Close(keepEntries: false);
        source.WaitForMigration("completed");
        target.WaitUntil(() => target.Status == "running", "the guest runs in the new process");
        ulong after = CprGuest.ReadCounter(target);
        Assert.True(after >= before, $"The counter was {before} and is {after}.");
        target.WaitUntil(() => CprGuest.ReadCounter(target) > after, "the guest counts on");
    }

    [Fact]
    public void A_set_waits_with_the_operator_and_goes_to_a_target_after_the_source_has_gone()
    {
        using var guest = new CprGuest();
        var source = guest.StartSource();
        using var session = new CprSession();
        guest.Receive(source, session);
        ulong before = CprGuest.ReadCounter(source);
        source.Command("quit");
        source.WaitForExit();
        // Only the session holds the guest's memory now.
        var ram = session.Registry.FindFd(CprName.Parse("m0"), 0)!;
        byte[] counter = new byte[8];
        Assert.Equal(8, RandomAccess.Read(ram.Handle, counter, 0x7e00));
        Assert.True(BitConverter.ToUInt64(counter) >= before);
    }

    [Fact]
    public void An_entry_may_be_added_on_the_way()
    {
        using var guest = new CprGuest();
        var source = guest.StartSource();
        var target = guest.StartTarget();
        using var session = new CprSession();
        guest.Receive(source, session);
        session.Registry.SaveFd(CprName.Parse(@"not-text-\xff"), 42, session.Registry.FindFd(CprName.Parse("m0"), 0)!.Handle);
        guest.Forward(session, session.Registry.Entries);
        target.ConnectMonitor();
        session.Close(keepEntries: false);
        source.WaitForMigration("completed");
        target.WaitUntil(() => target.Status == "running", "the guest runs in the new process");
    }

    [Fact]
    public void Without_an_entry_qemu_loses_the_guests_memory_in_silence_which_is_why_it_is_refused_here()
    {
        using var guest = new CprGuest();
        var source = guest.StartSource();
        var target = guest.StartTarget();
        using var session = new CprSession();
        guest.Receive(source, session);
        session.Registry.DeleteFd(CprName.Parse("m0"), 0);
        var error = Assert.Throws<CprException>(() => guest.Forward(session, session.Registry.Entries));
        Assert.Equal(CprError.EntriesLost, error.Reason);
        Assert.Contains("'m0', id 0", error.Message);

        guest.Forward(session, session.Registry.Entries, allowLoss: true);
        target.ConnectMonitor();
        session.Close(keepEntries: false);
        source.WaitForMigration("completed");
        ulong before = CprGuest.ReadCounter(source);
        Assert.NotEqual(0ul, before);
        target.WaitUntil(() => target.Status is "running" or "guest-panicked" or "internal-error" or "shutdown" or "paused", "an end of the load");
        Assert.True(CprGuest.ReadCounter(target) < before, "The guest's memory is there, against what is known of QEMU.");
        Assert.DoesNotContain("m0", target.Output);
    }

    [Fact]
    public void The_set_of_a_source_covers_the_ram_blocks_of_its_main_stream_and_a_reduced_one_does_not()
    {
        using var guest = new CprGuest();
        var source = guest.StartSource();
        string stream = guest.TempFile("main.stream");
        using var session = new CprSession();
        guest.Receive(source, session);
        CprFd[] set = [.. session.Registry.Entries.Select(CprFdInspector.Describe)];
        using (var main = new MainChannelFile(guest.MainSocket, stream))
        {
            session.CloseSource();
            source.WaitForMigration("completed");
        }

        using var reading = new TransferScope(TransferScope.DefaultTimeout);
        CprRamBlock[] blocks = [.. RamBlockList.Read(stream, reading).Select(block => new CprRamBlock(block.Name, block.Length))];
        Assert.Contains(new CprRamBlock("m0", 64 << 20), blocks);
        Assert.All(CprSetCheck.AgainstRam(set, blocks), check => Assert.True(check.Passed, check.ToString()));
        var failed = Assert.Single(CprSetCheck.AgainstRam([.. set.Where(entry => entry.Name != "pc.bios")], blocks), check => !check.Passed);
        Assert.Contains("'pc.bios'", failed.Detail);
        var small = set.Select(entry => entry.Name == "m0" ? entry with { Size = 4096 } : entry);
        Assert.Equal("RamSizes", Assert.Single(CprSetCheck.AgainstRam([.. small], blocks), check => !check.Passed).Name);
    }

    [Fact]
    public void A_target_that_refuses_the_memory_has_not_taken_over_and_the_source_keeps_its_guest()
    {
        using var guest = new CprGuest();
        var source = guest.StartSource();
        var target = guest.StartTarget();
        using var session = new CprSession();
        guest.Receive(source, session);
        string path = guest.TempFile("small");
        using var small = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite);
        RandomAccess.SetLength(small, 4096);
        session.Registry.DeleteFd(CprName.Parse("m0"), 0);
        session.Registry.SaveFd(CprName.Parse("m0"), 0, small);
        var error = Assert.Throws<CprException>(() => guest.Forward(session, session.Registry.Entries));
        Assert.Equal(CprError.NotTakenOver, error.Reason);
        Assert.Equal(1, target.WaitForExit());
        Assert.Contains("is too small", target.Output);
        source.Command("migrate_cancel");
        session.Close(keepEntries: false);
        ulong counter = CprGuest.ReadCounter(source);
        source.WaitUntil(() => CprGuest.ReadCounter(source) > counter, "the guest counts on");
    }

    [Fact]
    public void A_target_of_10_0_refuses_the_section_that_10_1_added_so_the_layout_can_be_chosen()
    {
        using var guest = new CprGuest();
        var source = guest.StartSource();
        var first = guest.StartTarget("first");
        using var session = new CprSession();
        guest.Receive(source, session);
        var error = Assert.Throws<CprException>(() => guest.Forward(session, session.Registry.Entries, CprStateLayout.Qemu101));
        Assert.Equal(CprError.NotTakenOver, error.Reason);
        Assert.Equal(1, first.WaitForExit());
        Assert.Contains("vmstate_load_state error -2", first.Output);
        session.CloseTarget();
        var second = guest.StartTarget("second");
        guest.Forward(session, session.Registry.Entries, CprStateLayout.Qemu100);
        second.ConnectMonitor();
        session.Close(keepEntries: false);
        source.WaitForMigration("completed");
    }

    private static long ReadInode(string fdInfo) => long.Parse(
        File.ReadLines(fdInfo).Single(line => line.StartsWith("ino:", StringComparison.Ordinal)).AsSpan(4).Trim(),
        System.Globalization.CultureInfo.InvariantCulture);
}
