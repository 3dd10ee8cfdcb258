using System.Text.Json;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Moving;

/// <summary>Sets migration capabilities and parameters of one QEMU, and remembers what they were.</summary>
internal sealed class SideSettings(QmpMonitor monitor)
{
    private const string CredentialsId = "migrationops-tls";

    private readonly Dictionary<string, bool> _oldCapabilities = new(StringComparer.Ordinal);
    private JsonObject? _oldParameters;
    private bool _hasCredentials;

    /// <summary>The capabilities that this QEMU has.</summary>
    internal HashSet<string> Known { get; } = new(StringComparer.Ordinal);

    /// <summary>Turns capabilities on or off.</summary>
    internal async Task SetCapabilitiesAsync(IReadOnlyDictionary<string, bool> wanted, CancellationToken cancellationToken)
    {
        var now = await monitor.ExecuteAsync(new QmpCommand("query-migrate-capabilities"), null, cancellationToken).ConfigureAwait(false);
        foreach (var item in now.Items())
        {
            string name = item.Text("capability") ?? "";
            Known.Add(name);
            if (wanted.TryGetValue(name, out bool state) && item.Flag("state") != state)
            {
                _oldCapabilities[name] = !state;
            }
        }

        if (_oldCapabilities.Count > 0)
        {
            await SendAsync(_oldCapabilities.Keys.ToDictionary(name => name, name => wanted[name]), cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Sets parameters.</summary>
    internal async Task SetParametersAsync(JsonObject wanted, CancellationToken cancellationToken)
    {
        if (_oldParameters is null)
        {
            var now = await monitor.ExecuteAsync(new QmpCommand("query-migrate-parameters"), null, cancellationToken).ConfigureAwait(false);
            _oldParameters = [];
            foreach (var (name, _) in wanted)
            {
                // What QEMU does not report has no value yet; an empty name is that of no credentials.
                if (now.Member(name) is { } old)
                {
                    _oldParameters[name] = JsonNode.Parse(old.GetRawText());
                }
                else if (name.StartsWith("tls-", StringComparison.Ordinal))
                {
                    _oldParameters[name] = "";
                }
            }
        }

        await monitor.ExecuteAsync(new QmpCommand("migrate-set-parameters", (JsonObject)wanted.DeepClone()), null, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Makes the credentials of a TLS migration.</summary>
    /// <returns>The name to give as tls-creds.</returns>
    internal async Task<string> AddCredentialsAsync(string directory, bool isServer, CancellationToken cancellationToken)
    {
        var arguments = new JsonObject { ["qom-type"] = "tls-creds-x509", ["id"] = CredentialsId, ["dir"] = directory, ["endpoint"] = isServer ? "server" : "client", ["verify-peer"] = true };
        await monitor.ExecuteAsync(new QmpCommand("object-add", arguments), null, cancellationToken).ConfigureAwait(false);
        _hasCredentials = true;
        return CredentialsId;
    }

    /// <summary>Sets everything back as it was.</summary>
    /// <returns>What could not be set back; null if all was.</returns>
    internal async Task<string?> RestoreAsync()
    {
        try
        {
            if (_oldCapabilities.Count > 0)
            {
                await SendAsync(_oldCapabilities, CancellationToken.None).ConfigureAwait(false);
                _oldCapabilities.Clear();
            }

            if (_oldParameters is { Count: > 0 })
            {
                await monitor.ExecuteAsync(new QmpCommand("migrate-set-parameters", (JsonObject)_oldParameters.DeepClone()), null, CancellationToken.None).ConfigureAwait(false);
                _oldParameters = [];
            }

            if (_hasCredentials)
            {
                await monitor.ExecuteAsync(new QmpCommand("object-del", new JsonObject { ["id"] = CredentialsId }), null, CancellationToken.None).ConfigureAwait(false);
                _hasCredentials = false;
            }

            return null;
        }
        catch (MigrationOpsException e)
        {
            return $"the migration settings of {monitor.Name} were not set back: {e.Message}";
        }
    }

    private Task<JsonElement> SendAsync(IEnumerable<KeyValuePair<string, bool>> states, CancellationToken cancellationToken)
        => monitor.ExecuteAsync(new QmpCommand("migrate-set-capabilities", new JsonObject
        {
            ["capabilities"] = new JsonArray([.. states.Select(state => new JsonObject { ["capability"] = state.Key, ["state"] = state.Value })]),
        }), null, cancellationToken);
}
