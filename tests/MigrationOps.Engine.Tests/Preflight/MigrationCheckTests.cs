using System.Net;
using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Wire;
using static MigrationOps.Engine.Tests.Preflight.PreflightLab;

namespace MigrationOps.Engine.Tests.Preflight;

public class MigrationCheckTests
{
    private static readonly DateTime Now = new(2026, 11, 27, 12, 0, 0, DateTimeKind.Utc);

    [Fact]
    public void What_qemu_itself_refuses_is_told_in_its_words()
    {
        var check = Assess("Blockers", Source(("query-migrate", """{"blocked-reasons": ["0000:00:04.0: VFIO migration is not supported"]}""")), Target())!;
        Assert.Equal(QemuCheckStatus.Blocker, check.Status);
        Assert.Contains("0000:00:04.0", check.Detail, StringComparison.Ordinal);
        Assert.Contains("list of VFIO devices", check.RecommendedAction, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{}", QemuCheckStatus.Info)]
    [InlineData("""{"status": "setup"}""", QemuCheckStatus.Blocker)]
    public void A_capability_of_both_sides_must_agree_once_the_target_listens(string migration, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("CapabilitiesAgree", Source(("query-migrate-capabilities", """[{"capability": "multifd", "state": true}]""")),
            Target(("query-migrate-capabilities", """[{"capability": "multifd", "state": false}]"""), ("query-migrate", migration)))!.Status);

    [Theory]
    [InlineData("x-ignore-shared", "true", "false", QemuCheckStatus.Blocker)]
    [InlineData("x-ignore-shared", "false", "true", QemuCheckStatus.Blocker)]
    [InlineData("compress", "true", "false", QemuCheckStatus.Blocker)]
    [InlineData("compress", "false", "true", QemuCheckStatus.Info)]
    [InlineData("xbzrle", "true", "false", QemuCheckStatus.Info)]
    public void A_capability_that_no_migration_sets_must_agree_beforehand_if_it_changes_the_stream(string name, string here, string there, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("CapabilitiesAgree", Source(("query-migrate-capabilities", $$"""[{"capability": "{{name}}", "state": {{here}} }]""")),
            Target(("query-migrate-capabilities", $$"""[{"capability": "{{name}}", "state": {{there}} }]""")))!.Status);

    [Fact]
    public void Channels_are_counted_only_if_there_are_any()
    {
        var source = Source(("query-migrate-parameters", """{"multifd-channels": 4}"""));
        var target = Target(("query-migrate-parameters", """{"multifd-channels": 2}"""), ("query-migrate", """{"status": "setup"}"""));
        Assert.Equal(QemuCheckStatus.Passed, Assess("ParametersAgree", source, target)!.Status);
        Assert.Equal(QemuCheckStatus.Blocker, Assess("ParametersAgree", source, target, facts => facts with { Options = new PreflightOptions { Channels = 4 } })!.Status);
    }

    [Theory]
    [InlineData("[]", QemuCheckStatus.Blocker)]
    [InlineData("""[{"name": "query-migrate", "meta-type": "command", "ret-type": "1"}, {"name": "1", "meta-type": "object", "members": [{"name": "postcopy-latency", "type": "int"}]}]""", QemuCheckStatus.Passed)]
    public void Postcopy_and_channels_go_together_where_qemu_says_so(string schema, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("ModeRules", Source() with { Schema = Schema(schema) }, Target(), facts => facts with { Options = new PreflightOptions { Mode = QemuMigrationMode.Postcopy, Channels = 2 } })!.Status);

    [Fact]
    public void A_mode_that_one_side_lacks_is_named()
    {
        var check = Assess("CommandSupport", Source(), Target(), facts => facts with { Options = new PreflightOptions { Mode = QemuMigrationMode.CprTransfer } })!;
        Assert.Equal((QemuCheckStatus.Blocker, true), (check.Status, check.Detail.Contains("cpr-transfer on the target", StringComparison.Ordinal)));
    }

    [Fact]
    public void A_job_holds_a_disk_unless_it_is_the_copy_that_was_asked_for()
    {
        var source = Source(("query-block-jobs", """[{"device": "j0", "type": "mirror"}]"""));
        Assert.Equal(QemuCheckStatus.Blocker, Assess("BlockJobs", source, Target())!.Status);
        Assert.Equal(QemuCheckStatus.Passed, Assess("BlockJobs", source, Target(), facts => facts with { Options = new PreflightOptions { CopyDisk = true } })!.Status);
    }

    [Theory]
    [InlineData("127.0.0.1", QemuCheckStatus.Blocker)]
    [InlineData("0.0.0.0", QemuCheckStatus.Blocker)]
    [InlineData("127.0.0.2", QemuCheckStatus.Passed)]
    public void A_port_is_taken_by_whoever_listens_on_its_address(string address, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("DataPath", Source(), Target(), facts => facts with
        {
            Options = new PreflightOptions { Listen = new Endpoint.Tcp("127.0.0.1", 4444) },
            TargetHost = HostFacts.Here(),
            Transport = new TransportFacts { Listening = [new IPEndPoint(IPAddress.Parse(address), 4444)] },
        })!.Status);

    [Fact]
    public void A_port_of_another_host_is_unknown()
        => Assert.Equal(QemuCheckStatus.Unknown, Assess("DataPath", Source(), Target(), facts => facts with { Options = new PreflightOptions { Listen = new Endpoint.Tcp("192.0.2.7", 4444) } })!.Status);

    [Theory]
    [InlineData(null, 30, QemuCheckStatus.Passed)]
    [InlineData(null, 3, QemuCheckStatus.Warning)]
    [InlineData(null, -1, QemuCheckStatus.Blocker)]
    [InlineData("is not there", 30, QemuCheckStatus.Blocker)]
    public void Credentials_have_to_be_there_and_in_date(string? problem, int days, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("TlsFiles", Source(), Target(), facts => facts with
        {
            Options = new PreflightOptions { TlsCredential = "/etc/pki/qemu" },
            Transport = new TransportFacts { Now = Now, Certificates = [new CertificateFacts("ca-cert.pem", problem) { NotBefore = Now.AddYears(-1), NotAfter = Now.AddDays(days) }] },
        })!.Status);

    [Theory]
    [InlineData("kvm2", QemuCheckStatus.Passed)]
    [InlineData("kvm3", QemuCheckStatus.Blocker)]
    public void The_certificate_has_to_be_for_the_target(string host, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("TlsName", Source(), Target(), facts => facts with
        {
            Options = new PreflightOptions { TlsCredential = "/etc/pki/qemu", Listen = new Endpoint.Tcp(host, 4444) },
            Transport = new TransportFacts { Certificates = [new CertificateFacts("server-cert.pem", null) { Names = ["KVM2", "192.0.2.2"] }] },
        })!.Status);

    [Theory]
    [InlineData("/a", "/a", 1, 1, QemuCheckStatus.Passed)]
    [InlineData("/a", "/b", 1, 1, QemuCheckStatus.Passed)]
    [InlineData("/a", "/a", 1, 2, QemuCheckStatus.Blocker)]
    public void A_disk_is_the_same_if_the_file_is(string here, string there, ulong inode, ulong inodeThere, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("DiskReach", Source(("query-block", Block(here, 100))), Target(("query-block", Block(there, 100))), facts => facts with
        {
            SourceFiles = new Dictionary<string, FileFacts> { [here] = new(1, inode, 100) },
            TargetFiles = new Dictionary<string, FileFacts> { [there] = new(1, inodeThere, 100) },
        })!.Status);

    [Theory]
    [InlineData(100, 200, QemuCheckStatus.Unknown)]
    [InlineData(200, 100, QemuCheckStatus.Blocker)]
    public void A_smaller_disk_is_refused_and_what_cannot_be_seen_is_unknown(int size, int sizeThere, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("DiskReach", Source(("query-block", Block("/a", size))), Target(("query-block", Block("/a", expected == QemuCheckStatus.Unknown ? size : sizeThere))))!.Status);

    [Theory]
    [InlineData(QemuMigrationMode.Normal, null)]
    [InlineData(QemuMigrationMode.Postcopy, QemuCheckStatus.Blocker)]
    public void Page_faults_matter_to_postcopy(QemuMigrationMode mode, QemuCheckStatus? expected)
        => Assert.Equal(expected, Assess("Userfaultfd", Source(), Target(), facts => facts with { Options = new PreflightOptions { Mode = mode }, TargetHost = HostFacts.Here() with { Userfaultfd = false } })?.Status);

    private static string Block(string file, int size) => $$"""[{"device": "", "qdev": "/machine/peripheral/disk0", "inserted": {"node-name": "d", "ro": false, "image": {"filename": "{{file}}", "virtual-size": {{size}} } } }]""";
}
