using System.Management.Automation;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommon.Get, "MigrationRelay")]
[OutputType(typeof(RelayedMigration))]
public sealed class GetMigrationRelay : PSCmdlet
{
    [Parameter(Position = 0)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    public string Uri { get; set; } = "*";

    protected override void ProcessRecord() => WriteObject(Find(this, Uri), enumerateCollection: true);

    /// <summary>The session's relays at an address; none at one without wildcards is an error.</summary>
    internal static RelayedMigration[] Find(PSCmdlet cmdlet, string uri)
    {
        var pattern = new WildcardPattern(uri);
        RelayedMigration[] found = [.. RunspaceSession.Current.All<RelayedMigration>().Where(relay => pattern.IsMatch(relay.Uri))];
        if (found.Length == 0 && !WildcardPattern.ContainsWildcardCharacters(uri))
        {
            string message = $"This session runs no relay at '{uri}'.";
            cmdlet.WriteError(new ErrorRecord(new ItemNotFoundException(message), "MigrationRelayNotFound", ErrorCategory.ObjectNotFound, uri)
            {
                ErrorDetails = new ErrorDetails(message)
                {
                    RecommendedAction = "List the relays of this session with Get-MigrationRelay, or stop it in the session that started it.",
                },
            });
        }

        return found;
    }
}
