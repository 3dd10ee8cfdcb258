using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests;

/// <summary>What the cmdlets give arrives over a real sshd as it left.</summary>
public sealed class RemotingTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Every_output_type_arrives_over_ssh_with_its_values_and_looks_as_it_did()
    {
        using var server = new SshServer(_folder);
        string samples = Path.Combine(Repository.Root, "tests/Pester/Samples.ps1");
        using var client = ModuleProcess.Start($$"""
            . '{{samples}}'
            $session = New-PSSession -HostName 127.0.0.1 -Port {{server.Port}} -UserName $([Environment]::UserName) -KeyFilePath '{{server.KeyFile}}' -Options {{SshServer.Options}}
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
        Assert.True(client.WaitForExit() == 0, client.Output + server.Output);
        Assert.Matches(@"\d+ types, WireNotFound", client.Output);
    }
}
