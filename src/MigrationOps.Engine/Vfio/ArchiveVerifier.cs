using MigrationOps.Engine.Multifd;

namespace MigrationOps.Engine.Vfio;

/// <summary>Verifies an archived migration whole: digests, every packet of every channel, every device's state.</summary>
public static class ArchiveVerifier
{
    /// <summary>Verifies an archive.</summary>
    /// <param name="folder">The archive's folder.</param>
    /// <param name="watch">Deadline and cancellation.</param>
    /// <returns>Its index.</returns>
    /// <exception cref="MigrationOpsException">What is wrong.</exception>
    public static MigrationArchive Verify(string folder, ProgressWatch watch)
    {
        ArgumentNullException.ThrowIfNull(watch);
        var archive = MigrationArchive.Read(folder);
        archive.CheckDigests(folder, watch.Token);
        using var devices = new DeviceStateReceiver(new ReassemblyOptions(), (_, _) => new NullSink(), watch.Token);
        FileStream[] streams = [.. archive.Streams.Select(s => MigrationArchive.OpenStream(folder, s))];
        var options = new ReceiveOptions { Channels = archive.Channels.Count(), PageSize = archive.PageSize, Timeout = watch.Limit };
        MigrationReceiver.Receive(streams, options, devices, watch);
        ArchivedDevice[] found = [.. devices.Devices.Select(d => VfioStateReceiver.ArchivedDeviceOf(d.Summary))];
        return found.ToHashSet().SetEquals(archive.Devices)
            ? archive
            : throw new MultifdException(MultifdError.ArchiveInvalid,
                $"The archive '{folder}' holds other devices than its index states.")
            { Target = folder };
    }

    /// <summary>The report of a verification.</summary>
    /// <param name="folder">The archive's folder.</param>
    /// <param name="watch">Deadline and cancellation.</param>
    public static DeviceStateReport Test(string folder, ProgressWatch watch)
    {
        var checks = new List<DeviceStateCheck>();
        try
        {
            var archive = MigrationArchive.Read(folder);
            checks.Add(new("Index", true, $"received by {archive.Tool} on {archive.Host} at {archive.FinishedAt:u}"));
            archive = Verify(folder, watch);
            checks.Add(new("Digests", true, $"{archive.Streams.Length} streams, {archive.Streams.Sum(s => s.Bytes):N0} bytes"));
            checks.Add(new("Channels", true, $"{archive.Channels.Count()} channels, every packet and SYNC mark there"));
            checks.AddRange(archive.Devices.Select(d => new DeviceStateCheck("Device", true,
                $"{d.IdStr}: {d.Bytes:N0} bytes in order, config state of {d.ConfigBytes:N0} bytes")));
        }
        catch (MigrationOpsException e)
        {
            checks.Add(DeviceStateCheck.FromFailure(checks.Count == 0 ? "Index" : e is VfioException ? "Device" : "Channels", e));
        }

        return new DeviceStateReport(folder, checks);
    }
}
