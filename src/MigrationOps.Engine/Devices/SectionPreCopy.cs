using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Devices;

/// <summary>What the source of a migration sends of a VFIO device while it runs, and what it knows to be left.</summary>
internal sealed class SectionPreCopy(VfioDevice device, TransferScope scope)
{
    private const int BlockSize = 1024 * 1024;

    // QEMU's figure for a kernel that does not say it: no downtime is promised that might not be kept.
    private const long UnknownStopCopySize = 100L << 30;

    private PreCopyInfo _left;
    private bool _initialSent;
    private bool _ackRequested;

    internal bool IsActive => device.State is VfioState.PreCopy or VfioState.PreCopyP2P;

    /// <summary>Takes a device that runs and has PRE_COPY there. One that is stopped would have to run for it.</summary>
    internal void Begin()
    {
        if (device.Flags.HasFlag(VfioMigrationFlags.PreCopy) && device.State == VfioState.Running)
        {
            device.Enter(VfioState.PreCopy);
            _left = device.GetPreCopyInfo();
        }
    }

    /// <summary>Writes the body of a PART section.</summary>
    /// <returns>True if nothing is left for now.</returns>
    internal bool Iterate(SaveVmSaveStream stream, SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(context);
        var writer = new MarkerWriter(stream);
        _left = Copy(stream, writer) ? device.GetPreCopyInfo() : default;
        // Not before the acknowledgement has been asked for: an answer that was not requested would be a fault of the target.
        bool completesInitial = _ackRequested && !_initialSent && _left.InitialBytes == 0;
        _initialSent |= completesInitial;
        // A target that does not wait for the mark takes it for an error.
        writer.Write(completesInitial ? VfioMarker.InitDataSent : VfioMarker.EndOfState);
        return _left.IsEmpty;
    }

    internal PendingBytes Estimate(SaveVmContext context) => Pending(0, context);

    internal PendingBytes Exact(SaveVmContext context)
    {
        if (IsActive)
        {
            _left = device.GetPreCopyInfo();
        }

        return Pending(device.StopCopySize ?? UnknownStopCopySize, context);
    }

    // What the device had when the turn began, and not more: one that changes as fast as it is read would never end its turn.
    private bool Copy(SaveVmSaveStream stream, MarkerWriter writer)
    {
        decimal most = Math.Max(1, Total);
        byte[] buffer = new byte[BlockSize];
        using var data = device.OpenData(FileAccess.Read, scope);
        do
        {
            int count = device.ReadData(data, buffer, inPreCopy: true);
            if (count == 0)
            {
                return false;
            }

            writer.WriteData(buffer.AsSpan(0, count));
            most -= count;
        }
        while (most > 0 && !stream.BudgetExceeded);
        return true;
    }

    private decimal Total => (decimal)_left.InitialBytes + _left.DirtyBytes;

    // The target's device answers the mark of the initial data's end, so one acknowledgement is asked for where the mark will be.
    private PendingBytes Pending(long stopCopySize, SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        bool asks = context.SwitchoverAck && IsActive && !_ackRequested;
        _ackRequested |= asks;
        // The sum over all devices must not overflow.
        long pending = (long)Math.Min(Total + stopCopySize, long.MaxValue >> 16);
        return new PendingBytes(pending) { SwitchoverAcks = asks ? 1 : 0 };
    }
}
