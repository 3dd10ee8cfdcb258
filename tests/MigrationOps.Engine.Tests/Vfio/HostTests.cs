using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>What sysfs shows of a machine's VFIO devices, and why one cannot be used: each reason under a name of its own.</summary>
public sealed class HostTests : IDisposable
{
    private const string Nic = "0000:3b:00.2";
    private const string Uuid = "83b8f4f2-509f-382f-3c1e-000000000001";

    private readonly TestFolder _folder = new();
    private readonly MadeMachine _machine;

    public HostTests() => _machine = new MadeMachine(_folder.File("root"));

    public void Dispose()
    {
        _machine.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void A_listing_says_what_sysfs_says_and_opens_no_device()
    {
        _machine.AddPci(Nic, [1], group: 11);
        _machine.AddMediated(Uuid, [2], group: 12, node: false);
        var devices = List();
        Assert.Equal([Nic, Uuid], devices.Select(d => d.Name));
        Assert.Equal((Nic, "15b3:101e", "mlx5-vfio-pci", "11"), (devices[0].PciAddress, devices[0].PciId, devices[0].Driver, devices[0].Group));
        Assert.Equal((VfioInterface.CharacterDevice, _machine.At("dev/vfio/devices/vfio0")), (devices[0].Interface, devices[0].Path));
        Assert.Equal((Uuid, "mtty-1", "mtty", null), (devices[1].MdevUuid, devices[1].MdevType, devices[1].Driver, devices[1].PciAddress));
        Assert.Equal((VfioInterface.Group, _machine.At("dev/vfio/12")), (devices[1].Interface, devices[1].Path));
        Assert.All(devices, d => Assert.True(d.Usable, d.Message));
        Assert.All(devices, d => Assert.Null(d.Migratable));
        Assert.Equal(0, _machine.Opened);
    }

    [Fact]
    public void Every_reason_that_keeps_a_device_from_use_has_a_name_of_its_own()
    {
        _machine.AddPci("0000:01:00.0", [1], group: 1);
        _machine.AddPci("0000:02:00.0", [1], group: 2);
        _machine.AddPci("0000:03:00.0", [1], group: 3, node: false);
        _machine.AddPci("0000:04:00.0", [1], group: 4, node: false);
        _machine.AddPci("0000:05:00.0", null, driver: "vfio-pci", group: 5);
        _machine.Hold(4711, "qemu-system-x86", "dev/vfio/devices/vfio0");
        _machine.Hold(4712, "other", "dev/vfio/2");
        _machine.AddHostDevice("0000:03:00.1", "e1000e", 3);
        _machine.Remove("dev/vfio/4");
        var devices = List();
        Assert.Equal(["VfioDeviceBusy", "VfioDeviceBusy", "VfioGroupNotViable", "VfioNoInterface", "VfioNotMigratable"], devices.Select(d => d.Reason));
        Assert.Equal(["4711 (qemu-system-x86)"], devices[0].Holders);
        Assert.Equal(["4712 (other)"], devices[1].Holders);
        Assert.Contains("4711 (qemu-system-x86)", devices[0].Message);
        Assert.Contains("0000:03:00.1 (e1000e)", devices[2].Message);
        Assert.False(devices[4].Migratable);
        Assert.Equal(0, _machine.Opened);
    }

    [Fact]
    public void A_host_without_iommufd_uses_the_group_and_says_so_where_there_is_none()
    {
        using var machine = new MadeMachine(_folder.File("debian"), iommufd: false);
        machine.AddPci(Nic, [1], group: 11, node: false);
        Assert.Equal(VfioInterface.Group, machine.Host.Find(Nic).Interface);
        machine.Remove("dev/vfio/vfio");
        Assert.Equal("VfioNoInterface", machine.Host.Describe(machine.Host.Find(Nic), machine.Host.FindHolders()).Reason);

        _machine.AddPci(Nic, [1], group: 11);
        _machine.Remove("dev/iommu");
        Assert.Equal(VfioInterface.Group, _machine.Host.Find(Nic).Interface);
        _machine.Remove("dev/vfio/11");
        Assert.Equal("VfioNoIommufd", Assert.Single(List()).Reason);
    }

    [Fact]
    public void A_group_without_an_IOMMU_is_named_as_what_it_is()
    {
        _machine.AddPci(Nic, [1], group: 11, node: false);
        _machine.MakeNoIommu(11);
        var device = Assert.Single(List());
        Assert.Equal((VfioInterface.NoIommuGroup, _machine.At("dev/vfio/noiommu-11"), "11"), (device.Interface, device.Path, device.Group));
    }

    [Theory]
    [InlineData(Nic, VfioInterface.CharacterDevice)]
    [InlineData("dev/vfio/devices/vfio0", VfioInterface.CharacterDevice)]
    [InlineData("dev/vfio/11", VfioInterface.Group)]
    [InlineData("sys/bus/pci/devices/" + Nic, VfioInterface.CharacterDevice)]
    [InlineData("sys/bus/pci/devices/" + Nic + "/", VfioInterface.CharacterDevice)]
    public void A_device_is_found_by_any_of_its_names_and_a_node_says_which_interface(string name, VfioInterface through)
    {
        _machine.AddPci(Nic, [1], group: 11);
        var target = _machine.Host.Find(name.Contains('/', StringComparison.Ordinal) ? _machine.At(name) : name);
        Assert.Equal((Nic, through), (target.Device.Name, target.Interface));
    }

    [Fact]
    public void A_name_that_leads_nowhere_says_whether_it_is_absent_or_bound_to_another_driver_or_one_of_several()
    {
        _machine.AddHostDevice("0000:00:1f.6", "e1000e", 3);
        _machine.AddPci("0000:01:00.0", [1], group: 1);
        _machine.AddPci("0000:01:00.1", [1], group: 1);
        Assert.Equal(VfioError.DeviceNotFound, Fail("ffff:00:00.0").Reason);
        Assert.Equal(VfioError.DeviceNotFound, Fail(_machine.At("dev/vfio/devices/vfio9")).Reason);
        Assert.Equal(VfioError.DeviceNotFound, Fail(_machine.At("dev/vfio/9")).Reason);
        var unbound = Fail("0000:00:1f.6");
        Assert.Equal(VfioError.NotBound, unbound.Reason);
        Assert.Contains("e1000e", unbound.Message);
        var several = Fail(_machine.At("dev/vfio/1"));
        Assert.Equal(VfioError.SeveralDevices, several.Reason);
        Assert.Contains("0000:01:00.0, 0000:01:00.1", several.Message);
    }

    [Fact]
    public void A_node_that_this_user_may_not_open_is_named()
    {
        _machine.AddPci(Nic, [1]);
        _machine.Deny("dev/vfio/devices/vfio0");
        // The group may be open to the user where the device is not.
        Assert.Equal(VfioInterface.Group, Assert.Single(List()).Interface);
        _machine.Deny("dev/vfio/11");
        var denied = Assert.Single(List());
        Assert.Equal("VfioAccessDenied", denied.Reason);
        Assert.Contains(_machine.At("dev/vfio/11"), denied.Message);
    }

    [Fact]
    public void A_kernel_before_6_1_has_no_class_of_devices_and_is_listed_by_its_groups()
    {
        _machine.AddPci(Nic, [1], group: 11, node: false);
        _machine.AddHostDevice("0000:3b:00.3", "mlx5_core", 11);
        Directory.Delete(_machine.At("sys/class/vfio-dev"), recursive: true);
        var device = Assert.Single(List());
        Assert.Equal((Nic, "11", VfioInterface.Group), (device.Name, device.Group, device.Interface));
    }

    private VfioException Fail(string name) => Assert.Throws<VfioException>(() => _machine.Host.Find(name));

    private VfioDeviceInfo[] List() => [.. _machine.Host.FindAll().Select(t => _machine.Host.Describe(t, _machine.Host.FindHolders()))];
}
