using System.Net;
using System.Net.Sockets;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Tools;

namespace MigrationOps.Interop.Tests;

/// <summary>What the cmdlets give arrives over a real sshd as it left.</summary>
public sealed class RemotingTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Every_output_type_arrives_over_ssh_with_its_values_and_looks_as_it_did()
    {
        int port = FreePort();
        using var server = StartServer(port);
        string samples = Path.Combine(Repository.Root, "tests/Pester/Samples.ps1");
        using var client = ModuleProcess.Start($$"""
            . '{{samples}}'
            $session = New-PSSession -HostName 127.0.0.1 -Port {{port}} -UserName $([Environment]::UserName) -KeyFilePath '{{_folder["client"]}}' -Options @{ StrictHostKeyChecking = 'no'; UserKnownHostsFile = '/dev/null'; LogLevel = 'ERROR' }
            $types = @(Get-ResultType)
            if ($types.Count -lt 20) { throw "Only $($types.Count) output types were found." }
            Invoke-Command -Session $session { Import-Module '{{ModuleProcess.Module}}'; . '{{samples}}' }
            foreach ($type in $types) {
                $script:counter = 0
                $here = New-Sample $type
                $there = Invoke-Command -Session $session { $script:counter = 0; New-Sample $using:type.FullName }
                Compare-Sample $here $there $type.Name
                # Which host it came from PowerShell adds by itself.
                'PSComputerName', 'RunspaceId', 'PSShowComputerName' | ForEach-Object { $there.PSObject.Properties.Remove($_) }
                if (($there | Out-String) -cne ($here | Out-String)) {
                    throw "$($type.Name) looks like '$($there | Out-String)', expected '$($here | Out-String)'"
                }
            }

            Invoke-Command -Session $session { Get-VhostBackend -SocketPath /nonexistent.sock } -ErrorVariable problem -ErrorAction SilentlyContinue
            "$($types.Count) types, $(($problem[0].FullyQualifiedErrorId -split ',')[0])"
            Remove-PSSession $session
            """);
        Assert.True(client.WaitForExit(120) == 0, client.Output + server.Output);
        Assert.Matches(@"\d+ types, WireNotFound", client.Output);
    }

    private PeerProcess StartServer(int port)
    {
        foreach (string name in new[] { "host", "client" })
        {
            using var keygen = new PeerProcess(Peers.Require("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", _folder[name]);
            Assert.True(keygen.WaitForExit() == 0, keygen.Output);
        }

        var powerShell = PowerShellCommand.Find(out string reason) ?? throw new InvalidOperationException(reason);
        File.Copy(_folder["client.pub"], _folder["authorized"]);
        File.WriteAllLines(_folder["config"],
        [
            $"Port {port}",
            "ListenAddress 127.0.0.1",
            $"HostKey {_folder["host"]}",
            $"AuthorizedKeysFile {_folder["authorized"]}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            $"Subsystem powershell {string.Join(' ', powerShell.Arguments.Prepend(powerShell.Program))} -sshs -NoLogo -NoProfile",
        ]);
        string program = Peers.Require("sshd");
        if (Environment.IsPrivilegedProcess)
        {
            // What the package's service makes for it.
            Directory.CreateDirectory("/run/sshd");
        }

        var server = new PeerProcess(program, "-D", "-e", "-f", _folder["config"]);
        server.WaitUntil(() => server.Output.Contains("listening on 127.0.0.1", StringComparison.Ordinal), "listening");
        return server;
    }

    private static int FreePort()
    {
        using var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port;
    }
}
