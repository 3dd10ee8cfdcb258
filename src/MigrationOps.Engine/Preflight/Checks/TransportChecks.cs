using System.Globalization;
using System.Net;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Preflight;

/// <summary>The way of the stream.</summary>
internal static class TransportChecks
{
    private static readonly TimeSpan Soon = TimeSpan.FromDays(7);

    internal static IEnumerable<PreflightCheck> All =>
    [
        new("DataPath", QemuCheckGroup.Transport, DataPath),
        new("TlsFiles", QemuCheckGroup.Transport, TlsFiles),
        new("TlsName", QemuCheckGroup.Transport, TlsName),
        new("PlaintextOverNetwork", QemuCheckGroup.Transport, PlaintextOverNetwork),
    ];

    private static Finding? DataPath(PreflightFacts facts)
    {
        if (facts.Options.Listen is not Endpoint.Tcp { Port: > 0 } listen)
        {
            return null;
        }

        if (facts.TargetHost is not { IsThisOne: true } || facts.Transport.Listening is not { } taken)
        {
            return Finding.Unknown($"Whether port {listen.Port} is free on the target's host cannot be seen from here.", $"On that host: ss -ltn 'sport = :{listen.Port}'").Of(null, listen.ToString());
        }

        var other = taken.FirstOrDefault(endpoint => endpoint.Port == listen.Port && (IsAny(endpoint.Address) || listen.Host.Length == 0 || !IPAddress.TryParse(listen.Host, out var address) || IsAny(address) || address.Equals(endpoint.Address)));
        return (other is null ? Finding.Passed()
            : Finding.Blocker($"A process listens on {other} already.", $"Choose another port, or none. Who it is: ss -ltnp 'sport = :{listen.Port}'")).Of(null, listen.ToString());
    }

    private static bool IsAny(IPAddress address) => address.Equals(IPAddress.Any) || address.Equals(IPAddress.IPv6Any);

    // QEMU's source is the TLS client and its target the server; one folder may serve both.
    private static Finding? TlsFiles(PreflightFacts facts)
    {
        if (facts.Transport.Certificates is not { } files)
        {
            return null;
        }

        string[] needed = facts.TargetHost is { IsThisOne: true } ? ["ca-cert.pem", "server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem"] : ["ca-cert.pem", "client-cert.pem", "client-key.pem"];
        string folder = facts.Options.TlsCredential!;
        foreach (var file in files.Where(file => needed.Contains(file.File)))
        {
            if (file.Problem is { } problem)
            {
                return Finding.Blocker($"{Path.Combine(folder, file.File)} {problem}.", $"Put the file into {folder}, readable for QEMU's user.").Of(folder, folder);
            }

            if (file.NotAfter != default && (file.NotAfter < facts.Transport.Now || file.NotBefore > facts.Transport.Now))
            {
                return Finding.Blocker(string.Create(CultureInfo.InvariantCulture, $"{file.File} is valid from {file.NotBefore:yyyy-MM-dd} to {file.NotAfter:yyyy-MM-dd} only."), "Issue the certificate anew.").Of(folder, folder);
            }
        }

        var first = files.Where(file => file.NotAfter != default).MinBy(file => file.NotAfter);
        return first is not null && first.NotAfter - facts.Transport.Now < Soon
            ? Finding.Warning(string.Create(CultureInfo.InvariantCulture, $"{first.File} ends on {first.NotAfter:yyyy-MM-dd}."), "Issue the certificate anew soon.") : Finding.Passed();
    }

    private static Finding? TlsName(PreflightFacts facts)
    {
        if (facts.Transport.Certificates?.FirstOrDefault(file => file is { File: "server-cert.pem", Problem: null }) is not { } server
            || facts.Options.Listen is not Endpoint.Tcp { Host.Length: > 0 } listen)
        {
            return null;
        }

        return (server.Names.Contains(listen.Host, StringComparer.OrdinalIgnoreCase) ? Finding.Passed()
            : Finding.Blocker($"The target's certificate is not for {listen.Host}.", $"Issue it with that name, or connect by one that it has: {string.Join(", ", server.Names)}")).Of(listen.Host, string.Join(", ", server.Names));
    }

    private static Finding? PlaintextOverNetwork(PreflightFacts facts)
    {
        bool isLocal = facts.TargetHost is { IsThisOne: true } || facts.Options.Listen is { IsNetwork: false };
        return isLocal || facts.Options.TlsCredential is not null ? Finding.Passed()
            : facts.Options.AllowPlaintext ? Finding.Info("The guest's memory goes over the network in plaintext, as was asked for.")
            : Finding.Warning("The guest's memory would go over the network in plaintext.", "Give credentials in QEMU's x509 layout, or allow plain text if the network is trusted.");
    }
}
