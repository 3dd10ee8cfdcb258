namespace MigrationOps.Engine.Streams;

/// <summary>
/// The checks that QEMU makes of a virtio device when it loads it, as far as the stream alone shows their outcome: numbers and
/// vectors that are out of range, and the indexes of each queue against the rings in guest memory.
/// </summary>
internal sealed class VirtioChecks(StreamContents contents, Action<Qemu.StreamVisitor>? walkAgain)
{
    private const int MaxQueues = 1024;
    private const ushort NoVector = 0xffff;
    private const string Action = "The device's state does not fit itself or the guest's memory. Look for another copy of the stream, or save the VM again.";
    private const string BrokenAction = "QEMU loads the stream, reports this and stops the device until the guest resets it; before QEMU 5.2 it refuses the stream. Look for another copy, or save the VM again.";

    private readonly List<DeviceStateCheck> _checks = [];
    private int _checked;
    private int _unread;
    private string? _obstacle;

    /// <summary>The failed checks, or one that passed; none without virtio devices.</summary>
    internal IReadOnlyList<DeviceStateCheck> Check(IReadOnlyList<VirtioState> devices)
    {
        if (devices.Count == 0)
        {
            return [];
        }

        foreach (var device in devices)
        {
            CheckNumbers(device);
        }

        CheckRings(devices);
        if (_checks.Count == 0)
        {
            _checks.Add(new DeviceStateCheck("VirtQueues", true,
                string.Join("; ", new[]
                {
                    $"{devices.Count} virtio devices",
                    _checked > 0 || _unread == 0 ? $"the indexes of {_checked} queues fit the rings in guest memory" : "",
                    _unread > 0 ? $"{_unread} queues could not be compared with guest memory: {_obstacle ?? "no memory of the stream lies at their addresses"}" : "",
                }.Where(part => part.Length > 0))));
        }

        return _checks;
    }

    private void CheckNumbers(VirtioState device)
    {
        if (device.QueueSelected >= MaxQueues)
        {
            Fail(device, $"queue {device.QueueSelected} is selected, and there are {MaxQueues} at most", Action);
        }

        if (device.ConfigVector is { } config && config != NoVector && config >= device.Vectors)
        {
            Fail(device, $"the configuration has MSI-X vector {config}, and there are {device.Vectors}", Action);
        }

        foreach (var queue in device.Queues)
        {
            if (queue.Descriptors == 0 && queue.LastAvailable != 0)
            {
                Fail(device, $"queue {queue.Index} has no address, and its last_avail_idx is {queue.LastAvailable} (VQ {queue.Index} address 0x0 inconsistent with Host index 0x{queue.LastAvailable:x})", Action);
            }

            if (queue.Vector is { } vector && vector != NoVector && vector >= device.Vectors)
            {
                Fail(device, $"queue {queue.Index} has MSI-X vector {vector}, and there are {device.Vectors}", Action);
            }
        }
    }

    private void CheckRings(IReadOnlyList<VirtioState> devices)
    {
        var memory = new GuestMemory(contents);
        var queues = devices.SelectMany(d => d.Queues.Where(q => q.Descriptors != 0).Select(q => (Device: d, Queue: q))).ToList();
        var readable = queues.Where(q => !q.Device.IsPacked && !q.Device.IsTranslated).ToList();
        _unread = queues.Count - readable.Count;
        _obstacle = _unread > 0 ? "packed rings, or addresses of an IOMMU" : null;
        if (readable.Count == 0)
        {
            return;
        }

        _obstacle = memory.Obstacle ?? (walkAgain is null ? "the stream came through a pipe and cannot be read twice" : null) ?? _obstacle;
        if (memory.Obstacle is not null || walkAgain is null)
        {
            _unread += readable.Count;
            return;
        }

        // Both are asked for, whether or not the first is there.
        var wanted = readable.Where(q => memory.RequestPage(q.Queue.AvailableIndexAddress) & memory.RequestPage(q.Queue.UsedIndexAddress)).ToList();
        _unread += readable.Count - wanted.Count;
        if (wanted.Count > 0)
        {
            walkAgain(memory);
            wanted.ForEach(q => CheckRing(q.Device, q.Queue, memory));
        }
    }

    private void CheckRing(VirtioState device, VirtioQueueState queue, GuestMemory memory)
    {
        if (memory.ReadWord(queue.AvailableIndexAddress) is not { } available || memory.ReadWord(queue.UsedIndexAddress) is not { } used)
        {
            _unread++;
            return;
        }

        _checked++;
        ushort given = (ushort)(available - queue.LastAvailable), inUse = (ushort)(queue.LastAvailable - used);
        if (given > queue.Size)
        {
            Fail(device, $"queue {queue.Index} of {queue.Size} entries has last_avail_idx {queue.LastAvailable}, and the available index in guest memory is {available}: "
                + $"a delta of {given} (VQ {queue.Index} size 0x{queue.Size:x} Guest index 0x{available:x} inconsistent with Host index 0x{queue.LastAvailable:x}: delta 0x{given:x})", BrokenAction);
        }
        else if (inUse > queue.Size)
        {
            Fail(device, $"queue {queue.Index} of {queue.Size} entries has last_avail_idx {queue.LastAvailable}, and the used index in guest memory is {used}: "
                + $"{inUse} buffers would be in use (VQ {queue.Index} size 0x{queue.Size:x} < last_avail_idx 0x{queue.LastAvailable:x} - used_idx 0x{used:x})", Action);
        }
    }

    private void Fail(VirtioState device, string what, string action)
        => _checks.Add(new DeviceStateCheck("VirtQueues", false, $"{device.Device}: {what}", action));
}
