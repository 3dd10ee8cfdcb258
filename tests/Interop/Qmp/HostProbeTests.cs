using MigrationOps.Engine.Qmp;

namespace MigrationOps.Interop.Tests.Qmp;

/// <summary>What a host offers, asked of real QEMUs.</summary>
public class HostProbeTests
{
    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task A_probe_tells_what_the_host_offers_and_leaves_nothing_behind(string program)
    {
        string path = Peers.Require(program);
        var host = await HostProbe.TakeAsync(new HostProbeOptions { Program = path });
        Assert.Equal((Environment.MachineName, path, "x86_64"), (host.Name, host.Program, host.Architecture));
        Assert.Contains(host.Machines, machine => machine.Alias == "q35");
        Assert.Contains(host.CpuModels, model => model.Name == "qemu64" && model.UnavailableFeatures is not null);
        Assert.Contains(host.CpuWords, word => word is { Leaf: 1, Register: "EDX" } && word.Bits != 0);
        Assert.Equal(host.Accelerator == "kvm", host.KvmProblem is null);
        Assert.Equal(host.Accelerator == "kvm" ? "host" : "max", host.CpuModel);
        Assert.Contains("migrate", host.Commands);
        Assert.Contains("multifd", host.MigrationCapabilities);
        Assert.Contains("downtime-limit", host.MigrationParameters);
        Assert.InRange(host.AvailableBytes, 1, host.MemoryBytes);
        Assert.NotEmpty(host.Nodes);
        Assert.Empty(host.Problems);
        Assert.DoesNotContain(Directory.GetDirectories(Path.GetTempPath(), "migrationops-qemu-*"), folder => File.Exists(Path.Combine(folder, "qmp")) && MonitorHolder.Find(Path.Combine(folder, "qmp")) is { } holder && holder.Pid == Environment.ProcessId);
    }

    [Fact]
    public async Task A_cpu_model_that_is_asked_for_is_the_one_whose_words_are_told()
    {
        string path = Peers.Require("qemu-system-x86_64");
        var small = await HostProbe.TakeAsync(new HostProbeOptions { Program = path, Cpu = "qemu64" });
        var large = await HostProbe.TakeAsync(new HostProbeOptions { Program = path, Cpu = "max" });
        Assert.Equal(("qemu64", "max"), (small.CpuModel, large.CpuModel));
        Assert.True(Bits(small) < Bits(large));

        static int Bits(QemuHost host) => host.CpuWords.Sum(word => System.Numerics.BitOperations.PopCount(word.Bits));
    }

    [Fact]
    public async Task Other_architectures_are_probed_without_cpu_words()
    {
        var host = await HostProbe.TakeAsync(new HostProbeOptions { Program = Peers.Require("qemu-system-aarch64") });
        Assert.Equal(("aarch64", "tcg"), (host.Architecture, host.Accelerator));
        Assert.Contains(host.Machines, machine => machine.Name.StartsWith("virt-", StringComparison.Ordinal));
        Assert.Empty(host.CpuWords);
    }
}
