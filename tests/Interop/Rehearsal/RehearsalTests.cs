using System.Security.Cryptography;
using MigrationOps.Engine.Rehearsal;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Rehearsal;

/// <summary>What a rehearsal keeps away from, and what it can be given.</summary>
[Collection("Rehearsal")]
public sealed class RehearsalTests(SourceStreams streams) : IClassFixture<SourceStreams>
{
    [Fact]
    public void No_byte_of_a_disk_changes_and_nothing_listens()
    {
        string raw = MakeDisk("disk.raw", "raw");
        string qcow = MakeDisk("disk.qcow2", "qcow2");
        string flash = streams.Folder.File("flash.fd");
        File.WriteAllBytes(flash, RandomNumberGenerator.GetBytes(1 << 20));
        string monitor = streams.Folder.File("operator.qmp");
        string log = streams.Folder.File("operator.log");
        string memory = streams.Folder.File("memory");
        File.WriteAllBytes(memory, RandomNumberGenerator.GetBytes(32 << 20));
        string machine = $"-M q35,memory-backend=m0 -accel tcg -m 32 -nodefaults -object memory-backend-file,id=m0,size=32M,share=on,mem-path={memory}"
            + $" -drive file={raw},format=raw,if=none,id=a -device virtio-blk-pci,drive=a"
            + $" -blockdev driver=file,node-name=f,filename={qcow} -blockdev driver=qcow2,node-name=b,file=f -device ide-hd,drive=b,bus=ide.0"
            + $" -drive if=pflash,format=raw,file={flash}"
            + " -netdev tap,id=n,ifname=mo-never0,script=no,downscript=no -device virtio-net-pci,netdev=n"
            + " -chardev socket,id=c,path=/nonexistent/serial.sock,server=on,wait=off -device isa-serial,chardev=c";
        string stream = streams.Save(machine.Replace("tap,id=n,ifname=mo-never0,script=no,downscript=no", "user,id=n", StringComparison.Ordinal)
            .Replace("path=/nonexistent/serial.sock", $"path={streams.Folder.File("serial.sock")}", StringComparison.Ordinal));
        string[] before = Hashes(raw, qcow, flash, memory);
        var times = Times(raw, qcow, flash, memory);

        var rehearsal = Rehearse(stream, [.. SourceStreams.Words(machine), "-qmp", $"unix:{monitor},server=on", "-monitor", "stdio", "-D", log,
            "-pidfile", streams.Folder.File("pid"), "-daemonize", "-vnc", "127.0.0.1:93", "-snapshot"]);

        // The stream has a slirp section, which a tap has not.
        Assert.False(rehearsal.Passed);
        Assert.Equal("UnknownSection", rehearsal.Kind);
        Assert.Equal("slirp", rehearsal.Section);
        var same = Rehearse(stream, SourceStreams.Words(machine.Replace("tap,id=n,ifname=mo-never0,script=no,downscript=no", "user,id=n,hostfwd=tcp::2222-:22", StringComparison.Ordinal)));
        Assert.True(same.Passed, string.Join('\n', same.QemuOutput));
        Assert.Equal(before, Hashes(raw, qcow, flash, memory));
        Assert.Equal(times, Times(raw, qcow, flash, memory));
        Assert.False(File.Exists(monitor) || File.Exists(log) || File.Exists(streams.Folder.File("pid")));
        Assert.DoesNotContain(same.ArgumentList, a => a.Contains(raw) || a.Contains(qcow) || a.Contains(flash) || a.Contains(memory) || a.Contains("2222"));
    }

    [Fact]
    public void A_tap_of_the_destination_offers_what_the_source_s_had()
    {
        const string Machine = "-M q35 -accel tcg -m 32 -nodefaults -device virtio-net-pci,netdev=n -netdev ";
        string stream = streams.Save(Machine + "hubport,id=n,hubid=0");
        var rehearsal = Rehearse(stream, SourceStreams.Words(Machine + "bridge,id=n,br=br7"));
        Assert.True(rehearsal.Passed, string.Join('\n', rehearsal.QemuOutput));
        Assert.Contains("tap,id=n,script=no,downscript=no,vhost=off", rehearsal.ArgumentList);
    }

    [Fact]
    public void A_saved_vm_in_a_qcow2_disk_and_a_compressed_stream_are_rehearsed_as_they_are()
    {
        const string Machine = "-M q35 -accel tcg -m 32 -nodefaults";
        string stream = streams.Save(Machine);
        string zipped = streams.Folder.File("vm.gz");
        using (var input = File.OpenRead(stream))
        using (var output = new System.IO.Compression.GZipStream(File.Create(zipped), System.IO.Compression.CompressionLevel.Fastest))
        {
            input.CopyTo(output);
        }

        Assert.True(Rehearse(zipped, SourceStreams.Words(Machine)).Passed);
    }

    [Theory]
    [InlineData("-device vfio-pci,host=0000:01:00.0", "vfio-pci")]
    [InlineData("-chardev socket,id=c,path=/x -netdev vhost-user,id=n,chardev=c", "vhost-user back-end of the network device 'n'")]
    [InlineData("-chardev socket,id=c,path=/x -device vhost-user-fs-pci,chardev=c,tag=t", "vhost-user-fs-pci")]
    [InlineData("-chardev socket,id=c,path=/x -tpmdev emulator,id=t,chardev=c", "TPM back-end")]
    [InlineData("-fsdev local,id=f,path=/srv,security_model=none", "shared folder")]
    public void A_device_that_cannot_be_had_is_named(string arguments, string words)
    {
        string stream = streams.Save("-M q35 -accel tcg -m 32 -nodefaults");
        var e = Assert.Throws<RehearsalException>(() => Rehearse(stream, SourceStreams.Words(arguments)));
        Assert.Equal(RehearsalError.DeviceNotAvailable, e.Reason);
        Assert.Contains(words, e.Message);
    }

    [Fact]
    public void A_command_line_that_QEMU_does_not_take_is_no_verdict()
    {
        string stream = streams.Save("-M q35 -accel tcg -m 32 -nodefaults");
        var e = Assert.Throws<RehearsalException>(() => Rehearse(stream, ["-M", "nonesuch"]));
        Assert.Equal(RehearsalError.StartFailed, e.Reason);
        Assert.Contains("unsupported machine type", e.Message);
    }

    [Fact]
    public void A_cancelled_rehearsal_leaves_no_process_and_no_folder()
    {
        string stream = streams.Save("-M q35 -accel tcg -m 32 -nodefaults");
        using var cancel = new CancellationTokenSource();
        using var scope = new TransferScope(TimeSpan.FromSeconds(30), cancel.Token) { Progress = _ => cancel.Cancel() };
        string[] before = Folders();
        Assert.ThrowsAny<OperationCanceledException>(() => StreamRehearsal.RunAsync(Options(stream, SourceStreams.Words("-M q35 -accel tcg -m 32 -nodefaults")), scope).GetAwaiter().GetResult());
        Assert.Equal(before, Folders());

        static string[] Folders() => [.. Directory.GetDirectories(Path.GetTempPath(), "migrationops-rehearsal-*").Order()];
    }

    private static MigrationRehearsal Rehearse(string stream, string[] arguments)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        return StreamRehearsal.RunAsync(Options(stream, arguments), scope).GetAwaiter().GetResult();
    }

    private static RehearsalOptions Options(string stream, string[] arguments) => new()
    {
        Input = new MigrationStreamInput { Path = stream },
        Program = Peers.Require("qemu-system-x86_64"),
        ArgumentList = arguments,
        WorkingDirectory = "/",
    };

    private string MakeDisk(string name, string format)
    {
        string path = streams.Folder.File(name);
        using var create = new PeerProcess(Peers.Require("qemu-img"), "create", "-q", "-f", format, path, "8M");
        Assert.True(create.WaitForExit() == 0, create.Output);
        return path;
    }

    private static string[] Hashes(params string[] paths) => [.. paths.Select(path => Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(path))))];

    private static DateTime[] Times(params string[] paths) => [.. paths.Select(File.GetLastWriteTimeUtc)];
}
