using System.Collections;
using System.Management.Automation;
using MigrationOps.Engine.Qmp;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Wait, "QemuEvent")]
[OutputType(typeof(QemuEvent))]
public sealed class WaitQemuEvent : MonitorCmdlet
{
    [Parameter(Position = 0)]
    [SupportsWildcards]
    [ValidateNotNullOrEmpty]
    public string[] Name { get; set; } = ["*"];

    [Parameter(Position = 1)]
    [ValidateNotNull]
    public IDictionary? Data { get; set; }

    [Parameter]
    public SwitchParameter Follow { get; set; }

    protected override Action<IOperationHost>? Prepare()
    {
        var names = Name.Select(name => WildcardPattern.Get(name, WildcardOptions.IgnoreCase)).ToArray();
        var wanted = QmpObjects.ToArguments(Data);
        return WithMonitor(async use =>
        {
            long last = use.Live?.LastEvent ?? 0;
            try
            {
                do
                {
                    use.Engine.Events.Since(last, out long dropped);
                    var received = await use.Engine.WaitForEventAsync(
                        candidate => names.Any(name => name.IsMatch(candidate.Event.Name)) && HasData(candidate, wanted), last, Timeout, use.Host.CancellationToken).ConfigureAwait(false);
                    last = received.Sequence;
                    if (use.Live is not null)
                    {
                        use.Live.LastEvent = last;
                    }

                    use.Host.WriteObject(Describe(use, received, dropped));
                }
                while (Follow);
            }
            catch (QmpException e) when (Follow && e.Reason == QmpError.EventTimeout)
            {
                // Following ends when nothing has come for as long.
            }
        });
    }

    private static bool HasData(ReceivedEvent received, System.Text.Json.Nodes.JsonObject? wanted)
        => wanted is null || wanted.All(member => received.Event.Data.Member(member.Key) is { } value
            && (member.Value is System.Text.Json.Nodes.JsonValue text && text.TryGetValue(out string? expected)
                ? value.ValueKind == System.Text.Json.JsonValueKind.String && string.Equals(value.GetString(), expected, StringComparison.Ordinal)
                : System.Text.Json.Nodes.JsonNode.DeepEquals(System.Text.Json.Nodes.JsonNode.Parse(value.GetRawText()), member.Value)));

    private static QemuEvent Describe(MonitorUse use, ReceivedEvent received, long dropped) => new()
    {
        Name = received.Event.Name,
        Data = received.Event.Data.ValueKind == System.Text.Json.JsonValueKind.Object ? QmpObjects.FromJson(received.Event.Data) : null,
        QemuTime = received.Event.Time?.LocalDateTime,
        ReceivedAt = received.ReceivedAt.LocalDateTime,
        Sequence = received.Sequence,
        Dropped = dropped,
        Monitor = use.Engine.Name,
        VM = use.VM,
    };
}
