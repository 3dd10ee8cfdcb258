using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Tests.Qmp;

/// <summary>What a QEMU's command line says, in the forms that people, libvirt and Proxmox write.</summary>
public class QemuCommandLineTests
{
    [Fact]
    public void One_that_a_person_wrote()
    {
        var line = QemuCommandLine.Parse(["qemu-system-x86_64", "-name", "web01", "-M", "q35", "-m", "512", "-qmp", "unix:/run/vm/a,,b.qmp,server=on,wait=off",
            "-uuid", "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "-incoming", "defer"]);
        Assert.Equal(("web01", "q35", 512L << 20, true), (line.Name, line.Machine, line.MemoryBytes, line.Incoming));
        Assert.Equal("1b4e28ba-2fa1-11d2-883f-0016d3cca427", line.Uuid);
        Assert.Equal(new MonitorArgument("/run/vm/a,b.qmp", null, null, "unix", true), Assert.Single(line.Monitors));
    }

    [Fact]
    public void One_that_libvirt_wrote()
    {
        var line = QemuCommandLine.Parse(["/usr/bin/qemu-system-x86_64", "-name", "guest=db02,debug-threads=on", "-S", "-object", "{\"qom-type\":\"secret\",\"id\":\"masterKey0\"}",
            "-machine", "pc-q35-7.2,usb=off,memory-backend=pc.ram", "-accel", "kvm", "-m", "size=67108864k", "-no-user-config", "-nodefaults",
            "-chardev", "socket,id=charmonitor,fd=26,server=on,wait=off", "-mon", "chardev=charmonitor,id=monitor,mode=control", "-chardev", "pty,id=charserial0"]);
        Assert.Equal(("db02", "pc-q35-7.2", 64L << 30, false), (line.Name, line.Machine, line.MemoryBytes, line.Incoming));
        Assert.Equal(new MonitorArgument(null, 26, null, "socket", true), Assert.Single(line.Monitors));
    }

    [Fact]
    public void One_that_proxmox_wrote()
    {
        var line = QemuCommandLine.Parse(["/usr/bin/kvm", "-id", "104", "-name", "mail,debug-threads=on", "-chardev", "socket,id=qmp,path=/var/run/qemu-server/104.qmp,server=on,wait=off",
            "-mon", "chardev=qmp,mode=control", "-chardev", "socket,id=qmp-event,path=/var/run/qmeventd.sock,reconnect=5", "-mon", "chardev=qmp-event,mode=control", "-m", "2048"]);
        Assert.Equal("mail", line.Name);
        Assert.Equal([new MonitorArgument("/var/run/qemu-server/104.qmp", null, null, "socket", true), new MonitorArgument("/var/run/qmeventd.sock", null, null, "socket", false)], line.Monitors);
        Assert.Equal([VMManager.Proxmox, VMManager.None], line.Monitors.Select(monitor => MonitorManager.OfSocket(monitor.Path!)));
    }

    [Theory]
    [InlineData("tcp:127.0.0.1:4444,server=on,wait=off", "127.0.0.1:4444", true)]
    [InlineData("tcp::4444,server", "127.0.0.1:4444", true)]
    [InlineData("tcp:kvm2:4444", "kvm2:4444", false)]
    [InlineData("stdio", null, false)]
    public void A_monitor_that_is_no_unix_socket(string value, string? address, bool isServer)
    {
        var monitor = Assert.Single(QemuCommandLine.Parse(["q", "-qmp", value]).Monitors);
        Assert.Equal((null, address, isServer), (monitor.Path, monitor.Address, monitor.IsServer));
    }

    [Theory]
    [InlineData("512", 512L << 20)]
    [InlineData("512M", 512L << 20)]
    [InlineData("4g,slots=2,maxmem=8g", 4L << 30)]
    [InlineData("size=1.5G", 3L << 29)]
    [InlineData("1048576k", 1L << 30)]
    [InlineData("1073741824b", 1L << 30)]
    [InlineData("much", null)]
    public void A_size_of_memory(string value, long? bytes) => Assert.Equal(bytes, QemuCommandLine.Parse(["q", "-m", value]).MemoryBytes);

    [Theory]
    [InlineData("-name")]
    [InlineData("-qmp", "")]
    [InlineData("-mon", "chardev=nowhere,mode=control")]
    [InlineData("-chardev", ",,,=,")]
    [InlineData("-m", "99999999999999999999G")]
    public void What_cannot_be_understood_is_passed_over(params string[] arguments)
        => Assert.Null(QemuCommandLine.Parse(["q", .. arguments]).Name);
}
