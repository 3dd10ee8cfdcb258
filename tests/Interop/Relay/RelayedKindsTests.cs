using System.Text.Json.Nodes;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Relay;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Relay;

/// <summary>Postcopy, TLS and archives of real QEMUs through a relay.</summary>
public class RelayedKindsTests
{
    private const string Program = "qemu-system-x86_64";

    [Theory]
    [InlineData(Program, true, false)]
    [InlineData(RelayedPair.Newest, true, true)]
    [InlineData(RelayedPair.Older, false, false)]
    public void Postcopy_goes_through_also_with_its_second_channel_and_over_a_second_connection(string program, bool preempt, bool pause)
    {
        using var pair = Postcopy(program, preempt, pause ? 4_000_000 : 0);
        pair.Migrate();
        pair.Source.WaitUntil(() => pair.Source.MigrationStatus == "active", "the first pages");
        pair.Source.Command("migrate-start-postcopy");
        if (pause)
        {
            // Until then a source takes its guest back when the connection breaks.
            pair.Source.WaitUntil(() => pair.Source.MigrationStatus == "postcopy-active", "postcopy");
            pair.Relay.Break();
            pair.Relay.WaitFor(s => s.Phase == RelayPhase.PostcopyPaused, RelayedPair.Cancelled);
            foreach (var qemu in new[] { pair.Source, pair.Target })
            {
                qemu.WaitUntil(() => qemu.MigrationStatus == "postcopy-paused", "it notices the pause");
            }

            string again = $"unix:{pair.Folder.File("again")}";
            pair.Target.Command("migrate-recover", new JsonObject { ["uri"] = again });
            pair.Relay.Target = Endpoint.Parse(again);
            pair.Source.SetParameters(new JsonObject { ["max-postcopy-bandwidth"] = 0 });
            pair.Source.Command("migrate", new JsonObject { ["uri"] = pair.Relay.Endpoint.ToString(), ["resume"] = true });
        }

        var status = pair.AssertMoved();
        Assert.Equal((RelayPhase.Acknowledged, pause ? 1 : 0), (status.Phase, status.ResumeAcks));
        Assert.True(status.Channels[0].ReturnBytes > 0, $"{status.Channels[0]}");
    }

    [Theory]
    [InlineData(Program, 0, false)]
    [InlineData(Program, 4, true)]
    [InlineData(RelayedPair.Newest, 4, false)]
    [InlineData(RelayedPair.Newest, 2, true)]
    [InlineData(RelayedPair.Older, 2, false)]
    public void TLS_passes_through_unread_or_ends_at_the_relay(string program, int channels, bool ends)
    {
        using var authority = new TestCertificates();
        using var folder = new TestFolder();
        string credentials = authority.WriteBoth(folder.File("pki"));
        string[] Credentials(string endpoint) => ["-object", $"tls-creds-x509,id=tls0,dir={credentials},endpoint={endpoint},verify-peer=yes"];
        using var pair = RelayedPair.Start(program, qemu =>
        {
            if (channels > 0)
            {
                RelayedPair.Multifd(channels)(qemu);
            }

            qemu.SetParameters(new JsonObject { ["tls-creds"] = "tls0" });
        }, tcp: true, sourceOptions: Credentials("client"), targetOptions: Credentials("server"),
            relay: (_, options) => ends ? options with { ListenSecurity = new(credentials), TargetSecurity = new(credentials) } : options);
        pair.Migrate();
        var status = pair.AssertMoved();
        Assert.Equal(ends ? RelayPhase.Acknowledged : RelayPhase.Ended, status.Phase);
        Assert.Equal(ends, status.Machine is not null);
        Assert.Equal(channels + 1, status.Channels.Count);
    }

    [Theory]
    [InlineData(Program, 2, "none")]
    [InlineData(RelayedPair.Newest, 4, "zstd")]
    [InlineData(RelayedPair.Older, 2, "none")]
    public void An_archive_of_a_relayed_migration_is_whole_and_loads(string program, int channels, string compression)
    {
        string archive = "";
        using (var pair = RelayedPair.Start(program, RelayedPair.Multifd(channels, compression), relay: (pair, options) => options with { Archive = archive = pair.Folder.File("kept") }))
        {
            pair.Migrate();
            pair.AssertMoved();
            var report = MigrationStreams.Test(new MigrationStreamInput { Path = archive });
            Assert.True(report.Passed, string.Join('\n', report.Checks.AsEnumerable()));
            using var again = RelayedPair.Start(program, RelayedPair.Multifd(channels, compression));
            using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, RelayedPair.Cancelled);
            ArchiveReplay.Send(archive, Endpoint.Parse(again.TargetUri), TransportSecurity.Default, verified: false, scope);
            again.Target.WaitForMigration("completed");
            Assert.Equal("running", again.Target.Status);
        }
    }

    [Fact]
    public void A_migration_that_fails_leaves_no_archive()
    {
        using var pair = RelayedPair.Start(Program, faults: [new(RelayFaultKind.Break, RelayPoint.Switchover)],
            relay: (pair, options) => options with { Archive = pair.Folder.File("kept") });
        pair.Migrate();
        pair.AssertFailed();
        pair.Relay.Dispose();
        Assert.DoesNotContain(pair.Folder.Entries, entry => entry.StartsWith("kept", StringComparison.Ordinal));
    }

    private static RelayedPair Postcopy(string program, bool preempt, int bandwidth)
    {
        string memory = Path.Combine(Path.GetTempPath(), $"mo-{Guid.NewGuid():N}");
        byte[] bytes = new byte[16 << 20];
        new Random(1).NextBytes(bytes);
        File.WriteAllBytes(memory, bytes);
        try
        {
            // Memory that is not zero, and so slow that it does not converge before it is told to switch.
            return RelayedPair.Start(program, qemu =>
            {
                qemu.SetCapability("postcopy-ram");
                qemu.SetCapability("postcopy-preempt", preempt);
                qemu.SetParameters(new JsonObject { ["max-bandwidth"] = 1_000_000, ["max-postcopy-bandwidth"] = bandwidth });
            }, machine: ["-M", "pc,memory-backend=m0", "-accel", QemuProcess.Accelerator, "-m", "16"],
                sourceOptions: ["-object", $"memory-backend-file,id=m0,size=16M,mem-path={memory},share=off"],
                targetOptions: ["-object", "memory-backend-ram,id=m0,size=16M"]);
        }
        finally
        {
            File.Delete(memory);
        }
    }
}
