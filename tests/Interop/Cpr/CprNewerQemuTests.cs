using System.Text.Json.Nodes;
using MigrationOps.Engine.Cpr;

namespace MigrationOps.Interop.Tests.Cpr;

/// <summary>QEMU after 10.0: the section of VFIO devices that it always writes, and the mode cpr-exec.</summary>
public class CprNewerQemuTests
{
    private const string Newer = "qemu-system-x86_64-newer";

    [Fact]
    public void A_set_of_a_newer_qemu_has_the_section_of_vfio_devices_and_goes_on_to_a_newer_one()
    {
        using var guest = new CprGuest(Newer);
        var source = guest.StartSource();
        var target = guest.StartTarget();
        using var session = new CprSession();
        guest.Receive(source, session);
        Assert.Empty(session.VfioDevices!);
        guest.Forward(session, session.Registry.Entries);
        target.ConnectMonitor();
        ulong before = CprGuest.ReadCounter(source);
        session.Close(keepEntries: false);
        source.WaitForMigration("completed");
        target.WaitUntil(() => target.Status == "running", "the guest runs in the new process");
        ulong after = CprGuest.ReadCounter(target);
        Assert.True(after >= before);
        target.WaitUntil(() => CprGuest.ReadCounter(target) > after, "the guest counts on");
    }

    [Fact]
    public void A_guest_moves_from_10_0_to_a_newer_qemu_through_the_broker()
    {
        using var guest = new CprGuest();
        var source = guest.Start("source", ["-machine", "pc-q35-10.0"], monitorLater: false);
        source.WaitUntil(() => CprGuest.ReadCounter(source) > 1000, "the guest counts");
        var target = guest.Start("target",
        [
            "-machine", "pc-q35-10.0", "-incoming", CprGuest.Channel("cpr", guest.OutSocket).ToJsonString(),
            "-incoming", CprGuest.Channel("main", guest.MainSocket).ToJsonString(),
        ], monitorLater: true, program: Newer);
        target.WaitForSocket(guest.OutSocket);
        using var session = new CprSession();
        guest.Receive(source, session);
        guest.Forward(session, session.Registry.Entries);
        target.ConnectMonitor();
        ulong before = CprGuest.ReadCounter(source);
        session.Close(keepEntries: false);
        source.WaitForMigration("completed");
        target.WaitUntil(() => target.Status == "running", "the guest runs in the newer process");
        Assert.True(CprGuest.ReadCounter(target) >= before);
    }

    [Fact]
    public void The_set_of_a_newer_qemu_is_taken_by_10_0_in_its_layout_only()
    {
        using var guest = new CprGuest();
        var source = guest.Start("source", [], monitorLater: false, program: Newer);
        var first = guest.StartTarget("first");
        using var session = new CprSession();
        guest.Receive(source, session);
        Assert.Equal(CprError.NotTakenOver, Assert.Throws<CprException>(() => guest.Forward(session, session.Registry.Entries)).Reason);
        Assert.Equal(1, first.WaitForExit());
        session.CloseTarget();
        var second = guest.StartTarget("second");
        guest.Forward(session, session.Registry.Entries, CprStateLayout.Qemu100);
        second.WaitForSocket(guest.MainSocket);
    }

    [Fact]
    public void A_state_written_for_cpr_exec_is_loaded_by_the_program_that_inherits_it()
    {
        using var guest = new CprGuest(Newer);
        var source = guest.StartSource();
        string stream = guest.TempFile("main.stream");
        using var session = new CprSession();
        guest.Receive(source, session);
        // The main channel as a file: the next program reads it when it starts.
        using (var main = new MainChannelFile(guest.MainSocket, stream))
        {
            session.CloseSource();
            source.WaitForMigration("completed");
        }

        ulong before = CprGuest.ReadCounter(source);
        source.Command("quit");
        source.WaitForExit();
        session.SendExec(session.Registry.Entries, allowLoss: false);
        var target = guest.Start("target", ["-incoming", $"file:{stream}"], monitorLater: false);
        target.WaitUntil(() => target.Status == "running", "the guest runs in the next program");
        Assert.True(CprGuest.ReadCounter(target) >= before);
    }

    [Fact]
    public void A_state_that_qemu_leaves_for_cpr_exec_is_what_we_read()
    {
        using var guest = new CprGuest(Newer);
        var source = guest.StartSource();
        string copy = guest.TempFile("state");
        string links = guest.TempFile("links");
        source.SetParameters(new JsonObject
        {
            ["mode"] = "cpr-exec",
            ["cpr-exec-command"] = new JsonArray("/bin/sh", "-c",
                $"cat /proc/self/fd/${CprExecState.VariableName} > {copy}; for fd in /proc/$$/fd/*; do echo ${{fd##*/}} $(readlink $fd); done > {links}.new; mv {links}.new {links}"),
        });
        source.Send("migrate", new JsonObject { ["uri"] = $"file:{guest.TempFile("main.stream")}" });
        source.WaitForExit();
        var walker = new CprStateWalker(CprMode.Exec, copy);
        walker.Feed(File.ReadAllBytes(copy), last: true);
        Assert.Empty(walker.VfioDevices!);
        Assert.Contains(walker.Entries, entry => entry.Name.ToString() == "m0");
        var open = File.ReadAllLines(links).Select(line => line.Split(' ', 2)).ToDictionary(parts => parts[0], parts => parts[1]);
        Assert.All(walker.Entries, entry => Assert.StartsWith("/memfd:", open[$"{entry.Descriptor}"]));
    }
}
