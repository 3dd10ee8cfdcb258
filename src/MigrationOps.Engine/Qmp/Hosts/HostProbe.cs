using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Qmp;

/// <summary>How a host is probed.</summary>
internal sealed record HostProbeOptions
{
    /// <summary>The QEMU program; null for that of this host's architecture in PATH.</summary>
    internal string? Program { get; init; }

    /// <summary>The machine type of the probe; null for the usual one.</summary>
    internal string? Machine { get; init; }

    /// <summary>The CPU model whose features are read; null for everything that the host has (host with KVM, max without).</summary>
    internal string? Cpu { get; init; }

    /// <summary>How long the probe may take to start and to answer.</summary>
    internal QmpTimeouts Timeouts { get; init; } = QmpTimeouts.Default;
}

/// <summary>
/// Finds out what this host offers to a VM: from a QEMU that is started paused, without devices, asked, and ended; and from
/// /proc and /sys.
/// </summary>
internal static class HostProbe
{
    internal static async Task<QemuHost> TakeAsync(HostProbeOptions options, ILogger? logger = null, CancellationToken cancellationToken = default)
    {
        string program = options.Program ?? UsualProgram();
        string? kvmProblem = KvmDeviceProblem();
        var problems = new List<string>();
        if (kvmProblem is null)
        {
            try
            {
                await using var probe = await StartAsync(program, "kvm", options, logger, cancellationToken).ConfigureAwait(false);
                return await DescribeAsync(probe.Monitor, program, "kvm", null, options, problems, cancellationToken).ConfigureAwait(false);
            }
            catch (QmpException e) when (e.Reason is QmpError.StartFailed or QmpError.QemuExited or QmpError.ConnectionLost)
            {
                kvmProblem = e.Message;
            }
        }

        await using var emulated = await StartAsync(program, "tcg", options, logger, cancellationToken).ConfigureAwait(false);
        return await DescribeAsync(emulated.Monitor, program, "tcg", kvmProblem, options, problems, cancellationToken).ConfigureAwait(false);
    }

    private static Task<QemuProcess> StartAsync(string program, string accelerator, HostProbeOptions options, ILogger? logger, CancellationToken cancellationToken)
    {
        string machine = options.Machine ?? UsualMachine(program);
        List<string> arguments = ["-M", machine, "-accel", accelerator, "-S", "-nodefaults", "-no-user-config", "-display", "none", "-m", "64"];
        if (machine != "none")
        {
            arguments.AddRange(["-cpu", CpuOf(options, accelerator)]);
        }

        return QemuProcess.StartAsync(new QemuProcessOptions { Program = program, Arguments = arguments, Timeouts = options.Timeouts }, logger, cancellationToken);
    }

    private static async Task<QemuHost> DescribeAsync(QmpMonitor monitor, string program, string accelerator, string? kvmProblem,
        HostProbeOptions options, List<string> problems, CancellationToken cancellationToken)
    {
        var schema = await monitor.GetSchemaAsync(cancellationToken).ConfigureAwait(false);
        var machines = await AskAsync(monitor, "query-machines", problems, cancellationToken).ConfigureAwait(false);
        var models = schema.HasCommand("query-cpu-definitions")
            ? await AskAsync(monitor, "query-cpu-definitions", problems, cancellationToken).ConfigureAwait(false) : default;
        var target = await AskAsync(monitor, "query-target", problems, cancellationToken).ConfigureAwait(false);
        var words = await CpuWordsAsync(monitor, problems, cancellationToken).ConfigureAwait(false);
        bool knowsClock = KernelClock.TryGet(out var clockError);
        if (!knowsClock)
        {
            problems.Add("The kernel's clock cannot be asked (adjtimex).");
        }

        return new QemuHost
        {
            Name = Environment.MachineName,
            TakenAt = DateTimeOffset.UtcNow.LocalDateTime,
            Program = program,
            Version = monitor.Version.Number,
            Package = monitor.Version.Package,
            Architecture = target.Text("arch") ?? "unknown",
            Machines = [.. machines.Items().Where(machine => machine.Text("name") is not null).Select(Machine).OrderBy(machine => machine.Name, StringComparer.Ordinal)],
            CpuModels = [.. models.Items().Where(model => model.Text("name") is not null).Select(Model).OrderBy(model => model.Name, StringComparer.Ordinal)],
            CpuModel = CpuOf(options, accelerator),
            CpuWords = words,
            Accelerator = accelerator,
            KvmProblem = kvmProblem,
            NestedKvm = HostFiles.NestedKvm(),
            Commands = [.. schema.Commands],
            MigrationCapabilities = [.. schema.ValuesOf("migrate-set-capabilities", "capabilities.capability").Order(StringComparer.Ordinal)],
            MigrationParameters = [.. schema.ArgumentsOf("migrate-set-parameters").Select(argument => argument.Name).Order(StringComparer.Ordinal)],
            CpuVendor = HostFiles.Cpu("vendor_id", "CPU implementer", "vendor"),
            CpuName = HostFiles.Cpu("model name", "cpu", "uarch"),
            Cpus = Environment.ProcessorCount,
            Kernel = HostFiles.Kernel(),
            MemoryBytes = HostFiles.Memory("MemTotal"),
            AvailableBytes = HostFiles.Memory("MemAvailable"),
            Nodes = HostFiles.NumaNodes(),
            HugePages = HostFiles.HugePages(),
            LoadAverage = HostFiles.LoadAverage(),
            Userfaultfd = UserFaultFd.IsAllowed(),
            MemlockBytes = HostFiles.Limit("Max locked memory"),
            OpenFiles = HostFiles.Limit("Max open files"),
            Links = HostFiles.Links(),
            Libvirt = HostFiles.HasLibvirt(),
            Proxmox = HostFiles.HasProxmox(),
            ClockSynchronized = knowsClock ? clockError is not null : null,
            ClockMaximumError = clockError,
            Problems = [.. problems],
        };
    }

    // A question that this QEMU refuses leaves a gap that is named, not a failure: the rest is worth having.
    private static async Task<JsonElement> AskAsync(QmpMonitor monitor, string command, List<string> problems, CancellationToken cancellationToken)
    {
        try
        {
            return await monitor.ExecuteAsync(command, cancellationToken: cancellationToken).ConfigureAwait(false);
        }
        catch (QmpException e) when (e.Reason is QmpError.CommandFailed or QmpError.CommandNotFound)
        {
            problems.Add(e.Message);
            return default;
        }
    }

    private static async Task<QemuCpuWord[]> CpuWordsAsync(QmpMonitor monitor, List<string> problems, CancellationToken cancellationToken)
    {
        var cpus = await AskAsync(monitor, "query-cpus-fast", problems, cancellationToken).ConfigureAwait(false);
        if (cpus.Items().FirstOrDefault() is not { ValueKind: JsonValueKind.Object } cpu || cpu.Text("qom-path") is not { } path
            || cpu.Text("target") is not ("x86_64" or "i386"))
        {
            return [];
        }

        try
        {
            var words = await monitor.ExecuteAsync("qom-get", new JsonObject { ["path"] = path, ["property"] = "feature-words" }, cancellationToken).ConfigureAwait(false);
            return [.. words.Items().Select(Word).OrderBy(word => word.Leaf).ThenBy(word => word.Subleaf ?? 0).ThenBy(word => word.Register, StringComparer.Ordinal)];
        }
        catch (QmpException e) when (e.Reason == QmpError.CommandFailed)
        {
            problems.Add(e.Message);
            return [];
        }
    }

    /// <summary>One of QEMU's X86CPUFeatureWordInfo.</summary>
    internal static QemuCpuWord Word(JsonElement word) => new()
    {
        Leaf = (uint)(word.Number("cpuid-input-eax") ?? 0),
        Subleaf = (uint?)word.Number("cpuid-input-ecx"),
        Register = word.Text("cpuid-register") ?? "",
        Bits = (uint)(word.Number("features") ?? 0),
    };

    private static QemuMachineType Machine(JsonElement machine) => new()
    {
        Name = machine.Text("name")!,
        Alias = machine.Text("alias"),
        Deprecated = machine.Flag("deprecated") ?? false,
        MaximumCpus = (int)(machine.Number("cpu-max") ?? 0),
        DefaultCpu = machine.Text("default-cpu-type"),
    };

    private static QemuCpuModel Model(JsonElement model) => new()
    {
        Name = model.Text("name")!,
        AliasOf = model.Text("alias-of"),
        MigrationSafe = model.Flag("migration-safe") ?? false,
        Deprecated = model.Flag("deprecated") ?? false,
        UnavailableFeatures = model.Member("unavailable-features") is null ? null : model.Texts("unavailable-features"),
    };

    private static string CpuOf(HostProbeOptions options, string accelerator) => options.Cpu ?? (accelerator == "kvm" ? "host" : "max");

    private static string UsualMachine(string program) => Path.GetFileName(program) switch
    {
        var name when name.Contains("aarch64", StringComparison.Ordinal) || name.Contains("-arm", StringComparison.Ordinal) || name.Contains("riscv", StringComparison.Ordinal) => "virt",
        var name when name.Contains("s390x", StringComparison.Ordinal) => "s390-ccw-virtio",
        var name when name.Contains("ppc64", StringComparison.Ordinal) => "pseries",
        var name when name.Contains("x86_64", StringComparison.Ordinal) || name.Contains("i386", StringComparison.Ordinal) || name.Contains("kvm", StringComparison.Ordinal) => "q35",
        _ => "none",
    };

    private static string UsualProgram()
    {
        string architecture = RuntimeInformation.OSArchitecture switch
        {
            Architecture.Arm64 => "aarch64",
            Architecture.S390x => "s390x",
            Architecture.Ppc64le => "ppc64",
            Architecture.RiscV64 => "riscv64",
            _ => "x86_64",
        };
        return new[] { $"/usr/bin/qemu-system-{architecture}", "/usr/libexec/qemu-kvm", "/usr/bin/kvm" }.FirstOrDefault(File.Exists) ?? $"qemu-system-{architecture}";
    }

    private static string? KvmDeviceProblem()
    {
        try
        {
            using var kvm = File.Open("/dev/kvm", FileMode.Open, FileAccess.ReadWrite);
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return e.Message;
        }
    }
}
