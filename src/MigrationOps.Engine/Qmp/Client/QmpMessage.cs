using System.Text.Json;

namespace MigrationOps.Engine.Qmp;

/// <summary>One message of a monitor.</summary>
internal abstract record QmpMessage
{
    private QmpMessage()
    {
    }

    /// <summary>The first message: who answers, and which protocol capabilities may be enabled.</summary>
    internal sealed record Greeting(QmpVersion Version, IReadOnlyList<string> Capabilities) : QmpMessage;

    /// <summary>A command has succeeded.</summary>
    /// <param name="Id">The number that was sent with it; null if the answer carries none of ours.</param>
    /// <param name="Value">What it returned.</param>
    internal sealed record Return(long? Id, JsonElement Value) : QmpMessage;

    /// <summary>A command has failed.</summary>
    /// <param name="Id">The number that was sent with it; null after input that QEMU could not parse.</param>
    /// <param name="Class">QEMU's class of the error.</param>
    /// <param name="Description">QEMU's words, for people.</param>
    internal sealed record Error(long? Id, string Class, string Description) : QmpMessage;

    /// <summary>Something happened.</summary>
    /// <param name="Name">Which event.</param>
    /// <param name="Data">Its members; an empty value if it has none.</param>
    /// <param name="Time">The clock of QEMU's host when it happened; null if QEMU could not read it.</param>
    internal sealed record Event(string Name, JsonElement Data, DateTimeOffset? Time) : QmpMessage;

    /// <summary>An object that is none of these. A later QEMU may have a reason to send it.</summary>
    internal sealed record Unknown(JsonElement Body) : QmpMessage;

    internal static QmpMessage Read(JsonElement message)
    {
        if (message.Text("event") is { } name)
        {
            return new Event(name, message.Member("data") ?? default, TimeOf(message));
        }

        // "return": null is a value too, so the member counts and not what it holds.
        if (message.ValueKind == JsonValueKind.Object && message.TryGetProperty("return", out var value))
        {
            return new Return(message.Number("id"), value);
        }

        if (message.Member("error") is { } error)
        {
            return new Error(message.Number("id"), error.Text("class") ?? "GenericError", error.Text("desc") ?? "QEMU gave no reason");
        }

        return message.Member("QMP") is { } greeting && greeting.Member("version") is { } version && QmpVersion.Read(version) is { } known
            ? new Greeting(known, greeting.Texts("capabilities"))
            : new Unknown(message);
    }

    private static DateTimeOffset? TimeOf(JsonElement message)
        => message.Member("timestamp") is { } stamp && stamp.Number("seconds") is >= 0 and < 253_402_300_800 and { } seconds
            && stamp.Number("microseconds") is >= 0 and < 1_000_000 and { } microseconds
            ? DateTimeOffset.FromUnixTimeSeconds(seconds).AddMicroseconds(microseconds) : null;
}
