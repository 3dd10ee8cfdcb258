using MigrationOps.Engine.Qemu;
namespace MigrationOps.Engine.Streams;

/// <summary>
/// Says whether a stream is whole, as named checks: what QEMU would not notice when it loads it counts as well, and values that
/// every QEMU refuses.
/// </summary>
/// <param name="contents">What was read.</param>
/// <param name="walkAgain">Walks the stream once more; null if it cannot be read twice.</param>
internal sealed class StreamChecker(StreamContents contents, Action<StreamVisitor>? walkAgain = null)
{
    private const string SaveAgain = "Save the VM again, and check that the source and its disk were in order.";

    private readonly List<DeviceStateCheck> _checks = [];
    private readonly List<VirtioState> _virtio = [];

    internal DeviceStateReport Check()
    {
        if (contents.Failure is { } failure)
        {
            _checks.Add(new DeviceStateCheck("Structure", false, StreamPlaces.DescribeFailure(contents, failure), failure.RecommendedAction));
            if (contents.Sections.Count == 0)
            {
                return new DeviceStateReport(contents.Name, _checks);
            }
        }
        else
        {
            Add("Structure", true, $"{contents.Sections.Count + contents.SectionsOmitted:N0} sections {(contents.HasFooters ? "with their footers" : "without footers")}, {contents.Length - contents.TrailingBytes:N0} bytes"
                + (contents.HasFooters ? "" : $"; {StreamNotes.NoFooters}"));
        }

        // Of a stream that ends too early or is damaged, that is the finding; what it would have had behind is none.
        if (contents.ReachedEof)
        {
            CheckHandlers();
            CheckDescription();
        }

        CheckDevices();
        if (contents.ReachedEof)
        {
            CheckRam();
        }

        if (contents.Bytes is not null && RunStateCheck.Check(contents) is { } runState)
        {
            _checks.Add(runState);
        }

        if (contents.ReachedEof)
        {
            _checks.AddRange(new VirtioChecks(contents, walkAgain).Check(_virtio));
        }

        CheckChannels();
        Add("TrailingBytes", true, contents.TrailingBytes == 0 ? "nothing follows the stream" : StreamNotes.Trailing(contents));
        return new DeviceStateReport(contents.Name, _checks);
    }

    private void CheckHandlers()
    {
        var open = contents.Sections.Where(s => s.Header.Kind == SectionKind.Start).Select(s => s.Header)
            .ExceptBy(contents.Sections.Where(s => s.Header.Kind is SectionKind.End or SectionKind.Full).Select(s => s.Header.Id), h => h.Id)
            .ToList();
        if (open is [{ IdStr: StreamFormat.Ram }])
        {
            Add("Handlers", true, StreamNotes.RamNotEnded);
            return;
        }

        Add("Handlers", open.Count == 0, open.Count == 0 ? "every iterative handler has ended" : $"not ended: {string.Join(", ", open.Select(h => h.Display))}",
            "QEMU does not look for the ends and may load it, without what they would have brought. Look for another copy, or save the VM again.");
    }

    private void CheckDescription()
    {
        if (contents.DescriptionFailure is { } failure)
        {
            _checks.Add(new DeviceStateCheck("Description", false, StreamPlaces.DescribeFailure(contents, failure), failure.RecommendedAction));
            return;
        }

        bool described = contents.DescriptionJson is not null && contents.Description is not null;
        string detail = described ? $"{contents.Description!.Devices.Count} devices are described, every body has its length"
            : contents.IsPostcopy ? "none, as in every postcopy stream"
            : "the stream has none";
        Add("Description", described || contents.IsPostcopy, detail,
            "QEMU does not read it, so that it may load the stream. Machine types before 2.3 and suppress-vmdesc=on write none; with others the file may have been cut behind the EOF mark."
                + (contents.IsEndUncertain ? " Without footers and description nothing shows whether the last device is whole." : ""));
    }

    private void CheckDevices()
    {
        if (contents.Description is null || contents.Bytes is null)
        {
            return;
        }

        // What the description lacks, its own check has told.
        var described = contents.FullSections.Where(s => contents.Description.Find(s.Header.IdStr, s.Header.InstanceId) is not null).ToList();
        int decoded = 0, backends = 0;
        foreach (var section in described)
        {
            long before = contents.Budget.Used;
            try
            {
                var root = DeviceDecoder.Decode(contents, section);
                decoded++;
                _virtio.AddRange(root.All().Where(n => n.Type == DeviceDecoder.VirtioType).Select(n => VirtioState.From(section.Header.IdStr, n, contents.Bytes)).OfType<VirtioState>());
                if (DeviceDecoder.BackendField(root) is { } field)
                {
                    long state = BackendChunks.Copy(contents.Bytes, field, section.Header.Display, static _ => { });
                    backends++;
                    Add("BackendState", true, $"{section.Header.IdStr}: {state:N0} bytes of the vhost-user back-end's state in whole chunks");
                }
            }
            catch (StreamException e)
            {
                _checks.Add(DeviceStateCheck.FromFailure(e.Reason == StreamError.InvalidChunks ? "BackendState" : "Devices", e));
            }
            finally
            {
                contents.Budget.Return(contents.Budget.Used - before);
            }
        }

        if (decoded == described.Count && decoded > 0)
        {
            Add("Devices", true, $"{decoded} devices decode to their last byte");
        }
    }

    private void CheckRam()
    {
        if (contents.Ram.Count == 0)
        {
            return;
        }

        // virtio-mem has the plugged part of its block migrated only; the block bears the device's path.
        var plugged = contents.FullSections.Select(s => s.Header.IdStr).Where(name => name.Contains("/virtio-mem", StringComparison.Ordinal))
            .Select(DevicePath).ToHashSet();
        int partial = 0;
        var missing = new List<string>();
        foreach (var ram in contents.Ram)
        {
            bool mayBeShared = StreamNotes.IsShared(contents, ram);
            if (!ram.Map.IsExact)
            {
                missing.Add($"{ram.Block.Name}: not told, for lack of memory");
            }
            else if (!ram.IsMapped && !mayBeShared && ram.Map.Seen < ram.Map.Pages && plugged.Contains(DevicePath(ram.Block.Name)))
            {
                partial++;
            }
            else if (!ram.IsMapped && !mayBeShared && ram.Map.Seen < ram.Map.Pages)
            {
                missing.Add($"{ram.Block.Name}: {ram.Map.Pages - ram.Map.Seen:N0} of {ram.Map.Pages:N0} pages");
            }
        }

        int shared = contents.Ram.Count(r => StreamNotes.IsShared(contents, r));
        Add("RamCoverage", missing.Count == 0,
            missing.Count == 0 ? $"{contents.Ram.Count} blocks, every page{(shared > 0 ? $"; {shared} are shared memory that stays where it is" : "")}{(partial > 0 ? $"; {partial} of virtio-mem as far as they are plugged" : "")}"
                : $"missing: {string.Join("; ", missing)}",
            contents.MultifdFlushes > 0 && contents.Channels.Count == 0
                ? "The pages travelled over multifd channels: give the folder that has them as well."
                : "If the VM migrated with multifd, these pages came over its channels: give the folder that has them. "
                    + "QEMU does not count the pages: it may load the stream, and the missing ones are zero in the new VM.");
        long filled = contents.Ram.Sum(r => r.Filled);
        if (filled > 0)
        {
            Add("RamFill", false, $"{filled:N0} pages are filled with a byte other than zero, which QEMU does not write", SaveAgain);
        }
    }

    private static string DevicePath(string name) => name.LastIndexOf('/') is > 0 and var slash ? name[..slash] : "";

    private void CheckChannels()
    {
        foreach (var channel in contents.Channels)
        {
            bool twice = contents.Channels.Any(c => c != channel && c.Id == channel.Id);
            bool foreign = contents.Channels[0].Uuid != channel.Uuid;
            string name = Path.GetFileName(channel.Path);
            Add("Channel", channel.Failure is null && !twice && !foreign,
                channel.Failure is { } failure ? $"{name}: {failure.Message}"
                    : twice ? $"{name}: channel {channel.Id} is there twice"
                    : foreign ? $"{name}: it has the UUID of another VM ({channel.Uuid})"
                    : $"{name}: channel {channel.Id}, {channel.Packets:N0} packets{string.Concat(channel.Warnings.Select(w => $"; {w}"))}", SaveAgain);
        }

        if (contents.Channels.Count > 0)
        {
            var missing = Enumerable.Range(0, contents.Channels.Max(c => c.Id) + 1).Except(contents.Channels.Select(c => c.Id)).ToList();
            Add("Channels", missing.Count == 0, missing.Count == 0 ? $"{contents.Channels.Count} channels" : $"channels {string.Join(", ", missing)} are missing", SaveAgain);
        }
    }

    private void Add(string name, bool passed, string detail, string action = "")
        => _checks.Add(new DeviceStateCheck(name, passed, detail, passed ? "" : action));
}
