using System.Text.Json.Nodes;
using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Qmp;

namespace MigrationOps.Engine.Tests.Preflight;

/// <summary>What is asked of a QEMU, of one that lists objects one by one and of one that lists many at once.</summary>
public class FactReaderTests
{
    private const string VirtioStatus = "x-query-virtio-status";

    [Fact]
    public async Task Objects_are_read_one_by_one_and_in_the_same_form_as_many_at_once()
    {
        await using MonitorLab slow = Lab(false), fast = Lab(true);
        var one = await FactReader.ReadAsync(await slow.ConnectAsync(), CancellationToken.None);
        var many = await FactReader.ReadAsync(await fast.ConnectAsync(), CancellationToken.None);
        Assert.Equal(Shown(one), Shown(many));
        Assert.Equal(["/machine pc-machine type=\"pc-machine\"", "/machine/peripheral container ", "/machine/peripheral/net0 e1000 addr=24,mac=\"52:54:00:00:00:01\",parent_bus=\"/machine/pci.0\"", "/objects objects "], Shown(one));
        Assert.True(many.Object("/machine/peripheral/net0")!.IsDevice);
        Assert.Contains(slow.Server.Commands, command => command.Name == "qom-get");
        Assert.DoesNotContain(fast.Server.Commands, command => command.Name is "qom-get" or "qom-list");
    }

    [Fact]
    public async Task A_question_that_ends_some_qemus_is_asked_only_of_those_that_answer_it()
    {
        await using MonitorLab safe = Lab(false), deadly = Lab(true);
        Assert.NotEmpty((await FactReader.ReadAsync(await safe.ConnectAsync(), CancellationToken.None)).Virtio!);
        Assert.Null((await FactReader.ReadAsync(await deadly.ConnectAsync(), CancellationToken.None)).Virtio);
        Assert.DoesNotContain(deadly.Server.Commands, command => command.Name == VirtioStatus);
    }

    [Fact]
    public async Task Nothing_but_questions_is_sent()
    {
        await using var lab = Lab(false);
        await FactReader.ReadAsync(await lab.ConnectAsync(change: options => options with { ReadOnly = true }), CancellationToken.None);
        Assert.All(lab.Server.Commands, command => Assert.True(command.Name == "qmp_capabilities" || QmpCommand.IsQueryName(command.Name), command.Name));
    }

    [Fact]
    public async Task With_a_lease_the_object_model_is_left_alone()
    {
        await using var lab = Lab(true);
        var facts = await FactReader.ReadAsync(await lab.ConnectAsync(change: options => options with { Lease = true, LeaseInterval = TimeSpan.Zero }), CancellationToken.None);
        Assert.Null(facts.Objects);
        Assert.DoesNotContain(lab.Server.Commands, command => command.Name.StartsWith("qom-", StringComparison.Ordinal));
    }

    [Fact]
    public async Task What_qemu_refuses_is_kept_in_its_words()
    {
        await using var lab = Lab(false, command => command.Name == "query-balloon" ? new QmpServerAnswer.Error("No balloon device has been activated") : null);
        var facts = await FactReader.ReadAsync(await lab.ConnectAsync(), CancellationToken.None);
        Assert.Equal((null, "No balloon device has been activated"), (facts["query-balloon"], facts.Answers["query-balloon"].Error));
    }

    private static string[] Shown(QemuFacts facts) => [.. facts.Objects!.OrderBy(found => found.Path, StringComparer.Ordinal)
        .Select(found => $"{found.Path} {found.Type} {string.Join(',', found.Properties.OrderBy(pair => pair.Key, StringComparer.Ordinal).Select(pair => $"{pair.Key}={pair.Value.GetRawText()}"))}")];

    // The versions differ, because schemas are kept by version.
    private static MonitorLab Lab(bool hasMany, Func<QmpServerCommand, QmpServerAnswer?>? other = null)
        => new(command => other?.Invoke(command) ?? Answer(command, hasMany), options => options with { Version = new QmpVersion(98, hasMany ? 1 : 0, 0, "preflight") });

    private static QmpServerAnswer? Answer(QmpServerCommand command, bool hasMany) => command.Name switch
    {
        "query-qmp-schema" => QmpServerAnswer.Json(SchemaOf(hasMany ? ["qom-list-get", "query-balloon", "x-query-virtio", VirtioStatus] : ["query-balloon", "x-query-virtio", VirtioStatus])),
        "query-balloon" => QmpServerAnswer.Json("""{"actual": 1}"""),
        "x-query-virtio" => QmpServerAnswer.Json("""[{"path": "/machine/peripheral/net0", "name": "virtio-net"}]"""),
        VirtioStatus => QmpServerAnswer.Json("""{"guest-features": {}}"""),
        "qom-list" => List(Path(command)) is { } list ? QmpServerAnswer.Json(WithoutValues(list)) : new QmpServerAnswer.Error("no such path"),
        "qom-list-get" => QmpServerAnswer.Json("[" + string.Join(',', command.Arguments.GetProperty("paths").EnumerateArray().Select(path => "{\"properties\": " + (List(path.GetString()!) ?? "[]") + "}")) + "]"),
        "qom-get" => QmpServerAnswer.Json(JsonNode.Parse(List(Path(command))!)!.AsArray().First(item => (string)item!["name"]! == command.Arguments.GetProperty("property").GetString())!["value"]!.ToJsonString()),
        _ => null,
    };

    private static string WithoutValues(string list)
    {
        var items = JsonNode.Parse(list)!.AsArray();
        foreach (var item in items)
        {
            item!.AsObject().Remove("value");
        }

        return items.ToJsonString();
    }

    private static string Path(QmpServerCommand command) => command.Arguments.GetProperty("path").GetString()!;

    private static string SchemaOf(string[] commands) => "[" + string.Join(',', commands.Select(name => $$"""{"name": "{{name}}", "meta-type": "command", "arg-type": "0", "ret-type": "0"}""")) + "]";

    private static string? List(string path) => path switch
    {
        "/machine" => """[{"name": "type", "type": "string", "value": "pc-machine"}, {"name": "peripheral", "type": "child<container>"}, {"name": "ram", "type": "child<memory-region>"}]""",
        "/machine/peripheral" => """[{"name": "net0", "type": "child<e1000>"}]""",
        "/machine/peripheral/net0" => """
            [{"name": "hotplugged", "type": "bool", "value": false}, {"name": "addr", "type": "int32", "value": 24}, {"name": "mac", "type": "str", "value": "52:54:00:00:00:01"},
             {"name": "parent_bus", "type": "link<bus>", "value": "/machine/pci.0"}, {"name": "acpi", "type": "link<x>", "value": ""}]
            """,
        "/objects" => "[]",
        _ => null,
    };
}
