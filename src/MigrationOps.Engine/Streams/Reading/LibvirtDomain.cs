using System.Diagnostics;
using System.Xml;
using System.Xml.Linq;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Finds where libvirt keeps the saved state of a domain, by asking <c>virsh</c>: the image of <c>managedsave</c>, or the memory of a
/// snapshot, which lies in a file of its own or inside a disk.
/// </summary>
internal static class LibvirtDomain
{
    private const string Virsh = "virsh";
    private const int MostOutput = 16 << 20;

    // Where libvirt's QEMU driver puts images of managedsave; virsh does not tell.
    private static readonly string[] SaveFolders = Environment.IsPrivilegedProcess
        ? ["/var/lib/libvirt/qemu/save"]
        : [Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".local/share/libvirt/qemu/save"),
            Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".config/libvirt/qemu/save"), "/var/lib/libvirt/qemu/save"];

    /// <summary>Finds the saved state.</summary>
    /// <param name="domain">The domain's name or UUID.</param>
    /// <param name="connect">libvirt's URI, as for <c>virsh -c</c>; null for virsh's default.</param>
    /// <param name="snapshot">The name of a snapshot; null for the image of managedsave, or the current snapshot if there is none.</param>
    /// <param name="scope">How long virsh may be silent, and cancellation.</param>
    /// <exception cref="StreamException"><see cref="StreamError.NotFound"/>: the domain has no saved state, or virsh says no.</exception>
    public static MigrationStreamInput Find(string domain, string? connect, string? snapshot, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(scope);
        var facts = Run(["dominfo", domain]).Split('\n').Select(line => line.Split(':', 2, StringSplitOptions.TrimEntries))
            .Where(fact => fact.Length == 2).ToLookup(fact => fact[0], fact => fact[1]);
        string name = facts["Name"].FirstOrDefault() ?? domain;
        if (snapshot is null && facts["Managed save"].FirstOrDefault() == "yes")
        {
            return new MigrationStreamInput
            {
                Path = SaveFolders.Select(folder => Path.Combine(folder, name + ".save")).FirstOrDefault(File.Exists)
                    ?? throw NotFound($"libvirt has a saved image of the domain '{name}', and it is not in {string.Join(" or ", SaveFolders)}.",
                        "Give the path of the image. libvirt's own host must be this one."),
            };
        }

        string xml = Run(snapshot is null ? ["snapshot-current", domain] : ["snapshot-dumpxml", domain, "--snapshotname", snapshot]);
        var described = Parse(xml);
        var memory = described.Element("memory");
        string chosen = (string?)described.Element("name") ?? snapshot ?? "";
        return (string?)memory?.Attribute("snapshot") switch
        {
            "external" => new MigrationStreamInput { Path = (string?)memory!.Attribute("file") ?? "" },
            "internal" => FindDisk(described, chosen),
            _ => throw NotFound($"The snapshot '{chosen}' of the domain '{name}' has no memory: it is of the disks alone.", "Choose a snapshot of a running domain."),
        };

        string Run(string[] arguments)
            => LibvirtDomain.Run([.. connect is null ? Array.Empty<string>() : ["-c", connect], "-q", .. arguments], domain, scope);
    }

    private static MigrationStreamInput FindDisk(XElement snapshot, string name)
    {
        var disks = snapshot.Descendants("devices").Elements("disk").Elements("source")
            .Select(source => (string?)source.Attribute("file") ?? (string?)source.Attribute("dev")).OfType<string>().Distinct().ToList();
        foreach (string disk in disks.Where(File.Exists))
        {
            if (MigrationStreams.GetSnapshots(new MigrationStreamInput { Path = disk })?.Any(s => s.Snapshot == name && s.StateSize > 0) == true)
            {
                return new MigrationStreamInput { Path = disk, Snapshot = name };
            }
        }

        throw NotFound($"None of the disks {string.Join(", ", disks.Select(d => $"'{d}'"))} has the memory of the snapshot '{name}'.",
            "Run this on the host that has the domain's disks.");
    }

    private static XElement Parse(string xml)
    {
        try
        {
            using var reader = XmlReader.Create(new StringReader(xml), new XmlReaderSettings { DtdProcessing = DtdProcessing.Prohibit });
            return XDocument.Load(reader).Root!;
        }
        catch (XmlException e)
        {
            throw new StreamException(StreamError.NotFound, $"virsh did not print XML: {e.Message}", e, "Run the command by hand.");
        }
    }

    private static string Run(string[] arguments, string domain, TransferScope scope)
    {
        var start = new ProcessStartInfo(Virsh) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment["LC_ALL"] = "C";
        try
        {
            using var process = Process.Start(start)!;
            process.StandardInput.Close();
            var error = process.StandardError.ReadToEndAsync(scope.CancellationToken);
            var output = ReadAsync(process.StandardOutput, scope.CancellationToken);
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(scope.CancellationToken);
            if (scope.Limit != Timeout.InfiniteTimeSpan)
            {
                limit.CancelAfter(scope.Limit);
            }

            try
            {
                process.WaitForExitAsync(limit.Token).GetAwaiter().GetResult();
            }
            catch (OperationCanceledException)
            {
                process.Kill(entireProcessTree: true);
                scope.CancellationToken.ThrowIfCancellationRequested();
                throw scope.Expired($"virsh {string.Join(' ', arguments)}", domain);
            }

            return process.ExitCode == 0 ? output.GetAwaiter().GetResult()
                : throw NotFound($"virsh says of '{domain}': {error.GetAwaiter().GetResult().Trim()}", "Check the name (virsh list --all), and the URI of libvirt.");
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new StreamException(StreamError.NotFound, $"'{Virsh}' cannot be started: {e.Message}", e, "Install libvirt-clients, or give the path of the image.");
        }
    }

    private static async Task<string> ReadAsync(StreamReader reader, CancellationToken cancellationToken)
    {
        char[] buffer = new char[4096];
        var text = new System.Text.StringBuilder();
        int count;
        while ((count = await reader.ReadAsync(buffer, cancellationToken).ConfigureAwait(false)) > 0)
        {
            if (text.Length + count > MostOutput)
            {
                throw new StreamException(StreamError.LimitExceeded, $"virsh prints more than {MostOutput:N0} characters.");
            }

            text.Append(buffer, 0, count);
        }

        return text.ToString();
    }

    private static StreamException NotFound(string message, string action) => new(StreamError.NotFound, message, action: action);
}
