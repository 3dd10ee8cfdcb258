using System.Text.Json.Nodes;

namespace MigrationOps.Engine.Qmp;

/// <summary>What a scripted monitor does about a command.</summary>
internal abstract record QmpServerAnswer
{
    private QmpServerAnswer()
    {
    }

    /// <summary>Success, with what the command returns; an empty object if it is null.</summary>
    internal sealed record Return(JsonNode? Value = null) : QmpServerAnswer;

    /// <summary>Failure.</summary>
    /// <param name="Description">The words for people.</param>
    /// <param name="Class">The class of the error.</param>
    /// <param name="WithId">False to leave the id out, as QEMU does for input that it cannot parse.</param>
    internal sealed record Error(string Description, string Class = "GenericError", bool WithId = true) : QmpServerAnswer;

    /// <summary>No answer, ever.</summary>
    internal sealed record Nothing : QmpServerAnswer;

    /// <summary>Bytes as they are; the text <c>$id</c> in them stands for the id of the command.</summary>
    internal sealed record Raw(string Text) : QmpServerAnswer;

    /// <summary>The connection is closed.</summary>
    internal sealed record Hangup : QmpServerAnswer;

    /// <summary>Success with the value that a JSON text has.</summary>
    internal static Return Json(string text) => new(JsonNode.Parse(text));
}
