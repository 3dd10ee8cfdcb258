using System.Text.Json;
using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Tests.Preflight;

/// <summary>Facts by hand, for what no QEMU at hand says.</summary>
internal static class PreflightLab
{
    private static readonly JsonElement NoSchema = JsonDocument.Parse("[]").RootElement;

    /// <summary>A VM that runs; more answers by command, in JSON.</summary>
    internal static QemuFacts Source(params (string Command, string Json)[] answers) => Qemu("unix:/run/vm.qmp", "running", answers);

    /// <summary>A QEMU that waits.</summary>
    internal static QemuFacts Target(params (string Command, string Json)[] answers) => Qemu("unix:/run/target.qmp", "inmigrate", answers);

    internal static QmpSchema Schema(string json) => QmpSchema.Read(JsonDocument.Parse(json).RootElement);

    internal static QomObject Device(string path, string type, string bus, params (string Name, string Json)[] properties)
        => new(path, type, properties.Append(("parent_bus", $"\"{bus}\"")).ToDictionary(property => property.Item1, property => Json(property.Item2))) { IsDevice = true };

    internal static QomObject Object(string path, string type, params (string Name, string Json)[] properties)
        => new(path, type, properties.ToDictionary(property => property.Name, property => Json(property.Json)));

    /// <summary>What one check says.</summary>
    internal static QemuMigrationCheck? Assess(string name, QemuFacts source, QemuFacts? target, Func<PreflightFacts, PreflightFacts>? change = null)
    {
        var facts = new PreflightFacts { Source = source, Target = target, Options = new PreflightOptions() };
        return PreflightTest.Checks.Single(check => check.Name == name).Run(change is null ? facts : change(facts));
    }

    internal static JsonElement Json(string json) => JsonDocument.Parse(json).RootElement;

    internal static string RamBlocks(params string[] lines)
        => JsonSerializer.Serialize(new Dictionary<string, string> { ["human-readable-text"] = "              Block Name    PSize              Offset               Used              Total                HVA  RO\n" + string.Concat(lines.Select(line => line + "\n")) });

    private static QemuFacts Qemu(string name, string state, (string Command, string Json)[] answers)
    {
        var all = new Dictionary<string, QmpAnswer>
        {
            ["query-status"] = new(Json($$"""{"status": "{{state}}"}"""), null),
            ["query-migrate"] = new(Json("{}"), null),
            ["query-uuid"] = new(Json("""{"UUID": "00000000-0000-0000-0000-000000000000"}"""), null),
        };
        foreach (var (command, json) in answers)
        {
            all[command] = new(Json(json), null);
        }

        return new QemuFacts { Name = name, VMName = "web01", Version = new QmpVersion(10, 0, 2, ""), Schema = QmpSchema.Read(NoSchema), Answers = all };
    }
}
