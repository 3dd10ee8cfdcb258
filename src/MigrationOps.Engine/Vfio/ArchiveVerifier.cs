using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>Verifies an archived migration whole: digests, every packet of every channel, every device's state.</summary>
internal static class ArchiveVerifier
{
    /// <summary>Verifies an archive.</summary>
    /// <param name="folder">The archive's folder.</param>
    /// <param name="scope">Deadline and cancellation.</param>
    /// <returns>Its index.</returns>
    /// <exception cref="MigrationOpsException">What is wrong.</exception>
    public static MigrationArchive Verify(string folder, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(scope);
        var archive = MigrationArchive.Read(folder);
        archive.CheckDigests(folder, scope.CancellationToken);
        using var devices = new DeviceStateReceiver(new ReassemblyOptions(), (_, _) => new NullSink(), scope.CancellationToken);
        FileStream[] streams = [.. archive.Streams.Select(s => MigrationArchive.OpenStream(folder, s))];
        var options = new ReceiveOptions { Channels = archive.Channels.Count(), PageSize = archive.PageSize };
        MigrationReceiver.Receive(streams, options, devices, scope);
        ArchivedDevice[] found = [.. devices.Devices.Select(d => VfioStateReceiver.ArchivedDeviceOf(d.Summary))];
        return found.ToHashSet().SetEquals(archive.Devices)
            ? archive
            : throw new MultifdException(MultifdError.ArchiveInvalid,
                $"The archive '{folder}' holds other devices than its index states.")
            { Target = folder };
    }

    /// <summary>The report of a verification.</summary>
    /// <param name="folder">The archive's folder.</param>
    /// <param name="scope">Deadline and cancellation.</param>
    public static DeviceStateReport Test(string folder, TransferScope scope)
    {
        var checks = new List<DeviceStateCheck>();
        try
        {
            var archive = MigrationArchive.Read(folder);
            checks.Add(new("Index", true, $"received by {archive.Tool} on {archive.Host} at {archive.FinishedAt:u}"));
            archive = Verify(folder, scope);
            checks.Add(new("Digests", true, $"{archive.Streams.Length} streams, {archive.Streams.Sum(s => s.Bytes):N0} bytes"));
            checks.Add(new("Channels", true, $"{archive.Channels.Count()} channels, every packet and SYNC mark there"));
            checks.AddRange(archive.Devices.Select(d => new DeviceStateCheck("Device", true,
                $"{d.IdStr}: {d.Bytes:N0} bytes in order, config state of {d.ConfigBytes:N0} bytes")));
        }
        catch (MigrationOpsException e)
        {
            checks.Add(DeviceStateCheck.FromFailure(checks.Count == 0 ? "Index" : e is VfioException or StreamException { ConcernsDevice: true } ? "Device" : "Channels", e));
        }

        return new DeviceStateReport(folder, checks);
    }
}
