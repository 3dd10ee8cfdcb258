using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Qmp;
using static MigrationOps.Engine.Tests.Preflight.PreflightLab;

namespace MigrationOps.Engine.Tests.Preflight;

public class ConfigurationCheckTests
{
    private const string Root = "/machine/q35/pcie.0";

    [Theory]
    [InlineData("pc.ram    4 KiB  0x0000000000000000 0x0000000002000000 0x0000000002000000 0x00007f0000000000  rw", QemuCheckStatus.Passed)]
    [InlineData("pc.ram    2 MiB  0x0000000000000000 0x0000000002000000 0x0000000002000000", QemuCheckStatus.Passed)]
    [InlineData("pc.ram    4 KiB  0x0000000000000000 0x0000000003000000 0x0000000003000000 0x00007f0000000000  rw", QemuCheckStatus.Blocker)]
    [InlineData("m0        4 KiB  0x0000000000000000 0x0000000002000000 0x0000000002000000 0x00007f0000000000  rw", QemuCheckStatus.Blocker)]
    [InlineData("a form of tomorrow", QemuCheckStatus.Unknown)]
    public void Blocks_of_memory_have_to_be_there_with_their_size(string there, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("RamBlocks",
            Source(("x-query-ramblock", RamBlocks("pc.ram    4 KiB  0x0000000000000000 0x0000000002000000 0x0000000002000000 0x00007f0000000000  rw"))),
            Target(("x-query-ramblock", RamBlocks(there))))!.Status);

    [Theory]
    [InlineData("0x0000000000020000", "0x0000000000030000", "0x0000000000200000", QemuCheckStatus.Passed)]
    [InlineData("0x0000000000020000", "0x0000000000010000", "0x0000000000010000", QemuCheckStatus.Blocker)]
    public void Tables_of_the_firmware_may_have_another_size_if_they_fit(string used, string usedThere, string most, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("RamBlocks",
            Source(("x-query-ramblock", RamBlocks($"/rom@etc/acpi/tables    4 KiB  0x0 {used} 0x0000000000200000 0x7f rw"))),
            Target(("x-query-ramblock", RamBlocks($"/rom@etc/acpi/tables    4 KiB  0x0 {usedThere} {most} 0x7f rw"))))!.Status);

    [Fact]
    public void A_block_without_a_name_is_in_no_stream()
    {
        const string Named = "pc.ram    4 KiB  0x0 0x0000000002000000 0x0000000002000000 0x7f rw", Nameless = "          4 KiB  0x0 0x0000000001000000 0x0000000001000000 0x7f rw";
        Assert.Equal(QemuCheckStatus.Passed, Assess("RamBlocks", Source(("x-query-ramblock", RamBlocks(Named, Nameless))), Target(("x-query-ramblock", RamBlocks(Named))))!.Status);
        Assert.Equal(QemuCheckStatus.Blocker, Assess("RamBlocks", Source(("x-query-ramblock", RamBlocks(Named, "m1" + Nameless[2..]))), Target(("x-query-ramblock", RamBlocks(Named, Nameless))))!.Status);
    }

    [Fact]
    public void Postcopy_wants_pages_of_one_size()
    {
        var source = Source(("x-query-ramblock", RamBlocks("pc.ram    4 KiB  0x0 0x0000000002000000 0x0000000002000000 0x7f rw")));
        var target = Target(("x-query-ramblock", RamBlocks("pc.ram    2 MiB  0x0 0x0000000002000000 0x0000000002000000 0x7f rw")));
        Assert.Equal(QemuCheckStatus.Blocker, Assess("RamBlocks", source, target, facts => facts with { Options = new PreflightOptions { Mode = QemuMigrationMode.Postcopy } })!.Status);
    }

    [Fact]
    public void A_device_is_the_one_at_its_place_whatever_it_is_called()
    {
        var source = Source() with { Objects = [Device("/machine/peripheral/a", "virtio-rng-pci", Root, ("addr", "24"))] };
        var target = Target() with { Objects = [Device("/machine/peripheral-anon/device[0]", "virtio-rng-pci", Root, ("addr", "24"))] };
        Assert.Equal(QemuCheckStatus.Passed, Assess("DeviceTree", source, target)!.Status);
    }

    [Fact]
    public void A_device_at_another_address_is_missing_and_the_action_says_where_it_belongs()
    {
        var source = Source() with { Objects = [Device("/machine/peripheral/net0", "e1000", Root, ("addr", "25"))] };
        var target = Target() with { Objects = [Device("/machine/peripheral/net0", "e1000", Root, ("addr", "32"))] };
        var check = Assess("DeviceTree", source, target)!;
        Assert.Equal(QemuCheckStatus.Blocker, check.Status);
        Assert.Contains("-device e1000,id=net0,addr=0x3.1", check.RecommendedAction, StringComparison.Ordinal);
        Assert.Contains("04.0", check.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void What_sits_behind_a_missing_bus_is_told_once()
    {
        QomObject port = Device("/machine/peripheral/rp", "pcie-root-port", Root, ("addr", "16")), card = Device("/machine/peripheral/net0", "e1000e", "/machine/peripheral/rp/rp", ("addr", "0"));
        var check = Assess("DeviceTree", Source() with { Objects = [port, card] }, Target() with { Objects = [Device("/machine/x", "mch", Root, ("addr", "0"))] })!;
        Assert.Equal(["rp (pcie-root-port)"], check.Data.Where(difference => difference.Status == QemuCheckStatus.Blocker).Select(difference => difference.Source));
    }

    [Fact]
    public void Without_state_a_missing_device_is_a_warning()
    {
        var source = Source() with { Objects = [Device("/machine/peripheral/t", "pci-testdev", Root, ("addr", "16"))] };
        var target = Target() with { Objects = [Device("/machine/x", "mch", Root, ("addr", "0"))] };
        var layouts = new LayoutFacts { Source = new Dictionary<string, string> { ["mch"] = "mch" }, Target = new Dictionary<string, string>(), Differences = [], IsSameBuild = true };
        Assert.Equal(QemuCheckStatus.Warning, Assess("DeviceTree", source, target, facts => facts with { Layouts = layouts })!.Status);
    }

    [Theory]
    [InlineData("virtio-net-pci", "vectors", "3", "4", QemuCheckStatus.Blocker)]
    [InlineData("virtio-net-pci", "mq", "true", "false", QemuCheckStatus.Warning)]
    [InlineData("virtio-net-pci", "netdev", "\"a\"", "\"b\"", QemuCheckStatus.Info)]
    [InlineData("virtio-net-pci", "vectors", "3", "3", QemuCheckStatus.Passed)]
    [InlineData("pcie-root-port", "slot", "1", "2", QemuCheckStatus.Blocker)]
    [InlineData("pcie-root-port", "chassis", "1", "2", QemuCheckStatus.Warning)]
    [InlineData("virtio-serial-pci", "max_ports", "31", "4", QemuCheckStatus.Warning)]
    [InlineData("virtio-serial-pci", "max_ports", "31", "62", QemuCheckStatus.Blocker)]
    [InlineData("hpet", "timers", "3", "4", QemuCheckStatus.Blocker)]
    public void A_property_counts_as_real_migrations_say(string type, string property, string here, string there, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("DeviceProperties",
            Source() with { Objects = [Device("/machine/peripheral/d", type, Root, ("addr", "16"), (property, here))] },
            Target() with { Objects = [Device("/machine/peripheral/d", type, Root, ("addr", "16"), (property, there))] })!.Status);

    [Theory]
    [InlineData(4, 8, QemuCheckStatus.Passed)]
    [InlineData(7, 3, QemuCheckStatus.Passed)]
    [InlineData(4, 4, QemuCheckStatus.Blocker)]
    public void The_ports_of_xhci_are_counted_together(int two, int three, QemuCheckStatus expected)
    {
        var check = Assess("DeviceProperties",
            Source() with { Objects = [Device("/machine/peripheral/d", "qemu-xhci", Root, ("addr", "16"), ("p2", two == 4 && three == 8 ? "8" : "4"), ("p3", two == 4 && three == 8 ? "4" : "6"))] },
            Target() with { Objects = [Device("/machine/peripheral/d", "qemu-xhci", Root, ("addr", "16"), ("p2", $"{two}"), ("p3", $"{three}"))] })!;
        Assert.Equal(expected == QemuCheckStatus.Passed ? QemuCheckStatus.Warning : expected, check.Status);
    }

    [Fact]
    public void A_feature_that_the_target_lacks_is_named()
    {
        var check = Assess("CpuFeatures", Source() with { Objects = [Cpu("0x00800001", true)] }, Target() with { Objects = [Cpu("0x00000001", false)] })!;
        Assert.Equal(QemuCheckStatus.Blocker, check.Status);
        Assert.Contains("popcnt", check.Detail, StringComparison.Ordinal);
        Assert.Contains("-cpu qemu64,-popcnt", check.RecommendedAction, StringComparison.Ordinal);
        Assert.Equal(QemuCheckStatus.Info, Assess("CpuFeatures", Source() with { Objects = [Cpu("0x00000001", false)] }, Target() with { Objects = [Cpu("0x00800001", true)] })!.Status);
    }

    [Fact]
    public void Bits_that_tell_how_cpus_are_arranged_are_no_features()
        => Assert.Equal(QemuCheckStatus.Passed, Assess("CpuFeatures", Source() with { Objects = [Cpu("0x10000000", false, "EDX")] }, Target() with { Objects = [Cpu("0x00000000", false, "EDX")] })!.Status);

    [Theory]
    [InlineData("""{"size": 1}""", """{"size": 1, "slots": 2}""", QemuCheckStatus.Blocker)]
    [InlineData("""{"size": 1, "slots": 2, "max-size": 5}""", """{"size": 1, "slots": 2, "max-size": 9}""", QemuCheckStatus.Passed)]
    public void The_slots_of_memory_have_to_be_the_same(string here, string there, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("MachineOptions",
            Source() with { Objects = [Object("/machine", "pc-q35-7.2-machine", ("memory", here))] },
            Target() with { Objects = [Object("/machine", "pc-q35-7.2-machine", ("memory", there))] })!.Status);

    [Fact]
    public void The_machine_type_of_a_host_is_looked_up()
    {
        var source = Source() with { Objects = [Object("/machine", "pc-q35-10.0-machine")] };
        Assert.Equal(QemuCheckStatus.Blocker, Assess("Machine", source, Target() with { Objects = [Object("/machine", "pc-q35-9.2-machine")] })!.Status);
        Assert.Equal(QemuCheckStatus.Unknown, Assess("Machine", source, Target())!.Status);
    }

    [Theory]
    [InlineData("VIRTIO_F_VERSION_1: in other words", QemuCheckStatus.Passed)]
    [InlineData("VIRTIO_NET_F_MQ: Multiqueue", QemuCheckStatus.Blocker)]
    public void A_feature_that_the_guest_has_accepted_must_be_offered(string offered, QemuCheckStatus expected)
    {
        (string, string) devices = ("x-query-virtio", """[{"path": "/machine/peripheral/n/virtio-backend", "name": "virtio-net"}]""");
        Assert.Equal(QemuCheckStatus.Unknown, Assess("VirtioFeatures", Source(devices), Target())!.Status);
        Assert.Null(Assess("VirtioFeatures", Source(), Target()));
        var source = Source(devices) with { Virtio = new Dictionary<string, System.Text.Json.JsonElement> { ["/machine/peripheral/n/virtio-backend"] = Json("""{"guest-features": {"transports": ["VIRTIO_F_VERSION_1: Device compliant"]}, "host-features": {"transports": ["VIRTIO_F_VERSION_1: Device compliant"]}}""") } };
        var target = Target() with { Virtio = new Dictionary<string, System.Text.Json.JsonElement> { ["/machine/peripheral/n/virtio-backend"] = Json($$"""{"host-features": {"dev-features": ["{{offered}}"] } }""") } };
        Assert.Equal(expected, Assess("VirtioFeatures", source, target)!.Status);
    }

    private static QomObject Cpu(string bits, bool popcnt, string register = "ECX") => Object("/machine/unattached/device[0]", "qemu64-x86_64-cpu",
        ("feature-words", $$"""[{"cpuid-input-eax": 1, "cpuid-register": "{{register}}", "features": {{Convert.ToUInt32(bits, 16)}}}]"""), ("popcnt", popcnt ? "true" : "false"));
}
