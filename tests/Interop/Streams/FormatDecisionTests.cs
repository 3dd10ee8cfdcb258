using System.Text.Json.Nodes;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Streams;

/// <summary>What DecisionTests has recorded, asked anew: a QEMU loads the altered stream or refuses it, and so does our reader.</summary>
public sealed class FormatDecisionTests : IDisposable
{
    private readonly StreamLab _lab = new();

    public void Dispose() => _lab.Dispose();

    [Theory]
    [InlineData("whole", null, null)]
    [InlineData("not a stream", "Not a migration stream", "StreamNotAStream")]
    [InlineData("empty machine type", null, null)]
    [InlineData("subsection version 1", null, null)]
    [InlineData("subsection version 2", "incoming version_id 2 is too new for local version_id 1", "StreamUnsupportedVersion")]
    [InlineData("subsection version 0", "incoming version_id 0 is too old", "StreamUnsupportedVersion")]
    [InlineData("unknown subsection", "", "StreamInvalidConfiguration")]
    [InlineData("capabilities 0", null, null)]
    // Whether a capability is known is a matter of the target that loads it.
    [InlineData("capabilities 1", "unknown capability x-zzz", null)]
    [InlineData("command 12", "MIG_CMD 0xc unknown", "StreamInvalidCommand")]
    [InlineData("ping of 3 bytes", "expecting 4, got 3", "StreamInvalidCommand")]
    [InlineData("section type 9", "section type 9", "StreamUnknownElement")]
    [InlineData("package that is an end mark", null, null)]
    // Dropped silently by QEMU, refused here on purpose.
    [InlineData("bytes behind the end mark of a package", null, "StreamInvalidPackage")]
    [InlineData("no footer mark", "Missing section footer for ram", "StreamFooterMismatch")]
    [InlineData("footer of section 99", "read 0x63 expected 0x1", "StreamFooterMismatch")]
    public void A_stream_is_taken_or_refused_as_the_peer_takes_or_refuses_it(string what, string? refusal, string? error)
    {
        string path = _lab.Folder.File("altered");
        using (var source = QemuProcess.Start(_lab.Folder, "source", Machine))
        {
            File.WriteAllBytes(path, AlteredStream.Of(File.ReadAllBytes(_lab.Save(source, "whole")), what));
        }

        using var target = QemuProcess.Start(_lab.Folder, "target", [.. Machine, "-incoming", "defer"]);
        target.Command("migrate-incoming", new JsonObject { ["uri"] = $"file:{path}", ["exit-on-error"] = false });
        string status = "";
        target.WaitUntil(() => (status = target.MigrationStatus) is "completed" or "failed", "the stream is loaded or refused");
        Assert.Equal(refusal is null ? "completed" : "failed", status);
        string described = target.Command("query-migrate").ToJsonString();
        // What it has printed is all there once it has ended.
        target.Command("quit");
        target.WaitForExit();
        Assert.Contains(refusal ?? "", target.Output + described, StringComparison.Ordinal);

        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var failure = Record.Exception(() => MigrationStreams.GetInfo(new MigrationStreamInput { Path = path }, scope)) ?? scope.Failure;
        Assert.True(error == (failure as MigrationOpsException)?.ErrorId, $"{what}: {failure}");
    }

    private static string[] Machine => ["-M", "none", "-accel", "tcg", "-m", "8", "-S"];
}
