using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Relay;

/// <summary>Looks at the elements of the main stream on their way, and puts faults and marks at their places.</summary>
internal sealed class MainWatch(RelayRound first, RelayChannel channel) : StreamVisitor
{
    private readonly List<RelayFault> _atSectionEnd = [];
    private bool _hasFooters = true;
    private bool _hasSwitched;
    private bool _isPackage;
    private bool _hasEnded;
    private long _flushes;

    private RelayState State => Round.State;

    /// <summary>The connections that are being looked at; others after a pause.</summary>
    internal RelayRound Round { get; set; } = first;

    /// <summary>The pump whose bytes are being looked at; another one after a pause.</summary>
    internal RelayPump Pump { get; set; } = null!;

    /// <summary>True once the place of a section's end had to be searched: what is behind it may be taken for something else.</summary>
    internal bool IsUncertain { get; private set; }

    public override void OnConfiguration(StreamConfiguration configuration)
    {
        if (configuration.PageBits is { } bits)
        {
            State.PageSize = 1 << bits;
        }

        State.Start(configuration.MachineType);
    }

    public override void OnPageSize(int pageSize) => State.PageSize = pageSize;

    public override void OnSectionStart(StreamSection section)
    {
        State.Start(null);
        channel.CountElement();
        if (section.Kind is SectionKind.Start && SectionBodies.IsVfio(section.IdStr))
        {
            State.Devices.Announce(section);
        }

        if (section.Kind == SectionKind.Part && State.Phase == RelayPhase.Setup)
        {
            State.Enter(RelayPhase.Copying);
        }
        else if (section.Kind == SectionKind.End)
        {
            Switch(section.Offset, section.Offset);
        }

        _atSectionEnd.Clear();
        foreach (var fault in Round.Faults.At(RelayPoint.Section, null, section.IdStr))
        {
            if (fault.Kind == RelayFaultKind.Damage || fault.Moment == RelayMoment.Before)
            {
                Round.Arm(fault, Pump, section.Offset, section.Offset, channel);
            }
            else
            {
                _atSectionEnd.Add(fault);
                if (fault.Kind == RelayFaultKind.Drop)
                {
                    Pump.At(section.Offset, () => Pump.IsDropping = true);
                }
            }
        }
    }

    public override void OnNoFooters() => _hasFooters = false;

    public override void OnSectionEndFound(StreamSection section, bool isCertain) => IsUncertain = true;

    public override void OnSectionEnd(StreamSection section, long bodyLength)
    {
        if (section.IdStr == StreamFormat.Ram && section.Kind == SectionKind.Start)
        {
            State.CompleteBlocks();
        }

        long end = section.BodyOffset + bodyLength + (_hasFooters ? SectionHeaders.FooterLength : 0);
        foreach (var fault in _atSectionEnd)
        {
            Round.Arm(fault with { Moment = RelayMoment.After }, Pump, section.Offset, end, channel);
        }

        _atSectionEnd.Clear();
    }

    public override void OnRamBlock(RamBlock block) => State.AddBlock(block);

    public override void OnVfioMarker(StreamSection section, VfioMarker marker, long offset, long dataLength)
    {
        if (marker == VfioMarker.ConfigState)
        {
            State.Devices.Complete(section);
        }
    }

    // The target's main thread waits there for a SYNC of each channel, out of everybody's reach: it gets the word when they have been passed on.
    public override void OnMultifdFlush(long offset)
    {
        State.CompleteBlocks();
        long flush = ++_flushes;
        Pump.At(offset, () => Round.AwaitSyncs(flush));
    }

    public override void OnCommand(StreamCommand command)
    {
        State.Start(null);
        channel.CountElement();
        long end = command.End;
        switch (command.Id)
        {
            case StreamCommandId.OpenReturnPath:
                State.OpenReturnPath();
                break;
            case StreamCommandId.PostcopyAdvise:
                State.AdvisePostcopy();
                Round.AllowSilent();
                break;
            case StreamCommandId.SwitchoverStart:
                Switch(command.Offset, end);
                break;
            case StreamCommandId.Packaged:
                Switch(command.Offset, end);
                _isPackage = true;
                Strike(RelayPoint.PostcopyPackage, command.Offset, end + command.Value);
                // From its last byte on the target may start the guest.
                Pump.At(end + command.Value, State.StartPostcopy);
                break;
        }
    }

    public override void OnEof(long offset)
    {
        long flushes = _flushes;
        Pump.At(offset, () => Round.AwaitRest(flushes));
        _hasEnded = true;
        if (_isPackage)
        {
            End(offset, offset + 1);
        }
    }

    public override void OnDescriptionStart(long offset, int length)
    {
        End(offset - 1, offset + StreamFormat.ElementHeader + length);
    }

    public override void OnTrailingData(long offset, ReadOnlySpan<byte> data)
    {
        State.TakeBackDelivery();
        State.Warn($"More bytes follow what was taken for the end of the main stream at byte {offset:N0}.");
    }

    /// <summary>The target has said that it has the whole stream, or the source has closed it: there is no description.</summary>
    internal void EndWithoutDescription()
    {
        if (_hasEnded && !State.IsDelivered)
        {
            State.Deliver();
        }
    }

    private void Switch(long offset, long end)
    {
        if (!_hasSwitched)
        {
            _hasSwitched = true;
            State.Enter(RelayPhase.Switching);
            Strike(RelayPoint.Switchover, offset, end);
        }
    }

    private void End(long offset, long end) => Strike(RelayPoint.EndOfStream, offset, end, State.Deliver);

    private void Strike(RelayPoint point, long offset, long end, Action? passed = null)
        => Round.Strike(point, Pump, offset, end, channel, passed);
}
