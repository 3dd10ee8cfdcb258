using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests;

/// <summary>The runbook that tests every VM of a host against others, over a real sshd.</summary>
public sealed class EvacuationTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Every_vm_has_its_worst_finding_for_every_host()
    {
        string prefix = $"leaving-{Environment.ProcessId}-";
        await using var fits = await StartAsync("qemu-system-x86_64", prefix + "fits", "pc-q35-8.0");
        await using var newer = await StartAsync("qemu-system-x86_64-newer", prefix + "newer", "pc-q35-11.1");
        await using var held = await StartAsync("qemu-system-x86_64", prefix + "held", "q35");
        await fits.Monitor.DisposeAsync();
        await newer.Monitor.DisposeAsync();
        using var server = new SshServer(_folder);
        string reached = $"{Environment.UserName}@127.0.0.1:{server.Port}";
        using var runbook = ModuleProcess.Start($$"""
            $options = @{ HostName = '{{reached}}', 'nobody@127.0.0.1:1'; KeyFilePath = '{{server.KeyFile}}'; SshOption = {{SshServer.Options}}; Module = '{{ModuleProcess.Module}}' }
            $matrix = & '{{Repository.Root}}/examples/Test-HostEvacuation.ps1' @options -Name '{{prefix}}*' -MaxBandwidth 1GB -CsvPath '{{_folder["m.csv"]}}' -HtmlPath '{{_folder["m.html"]}}'
            foreach ($row in $matrix) { "row $($row.VM) | $($row.'{{reached}}') | $($row.'nobody@127.0.0.1:1') | targets $($row.Targets), reports $($row.Reports.Count)" }
            """);
        Assert.True(runbook.WaitForExit(180) == 0, runbook.Output + server.Output);
        string Row(string name) => runbook.Output.Split('\n').Single(line => line.StartsWith($"row {prefix}{name} ", StringComparison.Ordinal));
        Assert.DoesNotContain("Blocker", Row("fits"), StringComparison.Ordinal);
        Assert.Contains("| Unknown host: ", Row("fits"), StringComparison.Ordinal);
        Assert.Contains("targets 1, reports 1", Row("fits"), StringComparison.Ordinal);
        Assert.Contains("| Blocker Machine: ", Row("newer"), StringComparison.Ordinal);
        Assert.Contains("targets 0, reports 1", Row("newer"), StringComparison.Ordinal);
        Assert.Contains($"| Unknown VM: ", Row("held"), StringComparison.Ordinal);
        Assert.Contains($"(pid {Environment.ProcessId})", Row("held"), StringComparison.Ordinal);

        string[] table = File.ReadAllLines(_folder["m.csv"]);
        Assert.Equal($"\"VM\",\"{reached}\",\"nobody@127.0.0.1:1\",\"Targets\"", table[0]);
        Assert.Equal(4, table.Length);
        string page = await File.ReadAllTextAsync(_folder["m.html"]);
        Assert.Contains($"<td class=\"Blocker\">Blocker Machine: ", page, StringComparison.Ordinal);
        Assert.Contains("MiB to send", page, StringComparison.Ordinal);
        Assert.EndsWith("</html>\n", page, StringComparison.Ordinal);
    }

    private Task<Engine.Qmp.QemuProcess> StartAsync(string program, string name, string machine) => Engine.Qmp.QemuProcess.StartAsync(new QemuProcessOptions
    {
        Program = Peers.Require(program),
        Arguments = ["-name", name, "-M", machine, "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none", "-S"],
        MonitorPath = _folder[name],
    });
}
