using System.Net;
using System.Net.Sockets;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Tools;

namespace MigrationOps.Interop.Tests;

/// <summary>A real sshd on loopback that lets this user in with a key of its own, with PowerShell as its subsystem.</summary>
internal sealed class SshServer : IDisposable
{
    private readonly PeerProcess _server;

    internal SshServer(TestFolder folder)
    {
        foreach (string name in new[] { "host", "client" })
        {
            using var keygen = new PeerProcess(Peers.Require("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", folder[name]);
            Assert.True(keygen.WaitForExit() == 0, keygen.Output);
        }

        Port = FreePort();
        KeyFile = folder["client"];
        var powerShell = PowerShellCommand.Find(out string reason) ?? throw new InvalidOperationException(reason);
        File.Copy(folder["client.pub"], folder["authorized"]);
        File.WriteAllLines(folder["config"],
        [
            $"Port {Port}",
            "ListenAddress 127.0.0.1",
            $"HostKey {folder["host"]}",
            $"AuthorizedKeysFile {folder["authorized"]}",
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

        _server = new PeerProcess(program, "-D", "-e", "-f", folder["config"]);
        _server.WaitUntil(() => _server.Output.Contains("listening on 127.0.0.1", StringComparison.Ordinal), "listening");
    }

    internal int Port { get; }

    internal string KeyFile { get; }

    internal string Output => _server.Output;

    /// <summary>Options for a client that has never seen it, in PowerShell.</summary>
    internal static string Options => "@{ StrictHostKeyChecking = 'no'; UserKnownHostsFile = '/dev/null'; LogLevel = 'ERROR' }";

    public void Dispose() => _server.Dispose();

    private static int FreePort()
    {
        using var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port;
    }
}
