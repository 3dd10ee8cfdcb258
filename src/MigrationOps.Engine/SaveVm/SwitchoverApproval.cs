namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Counts on the target which devices have still to approve the switchover. The acknowledgement goes out when the return path is open,
/// all devices have been asked, and none is missing - at once, if none needs it.
/// </summary>
internal sealed class SwitchoverApproval
{
    private readonly Lock _gate = new();
    private readonly HashSet<EntryContext> _missing = [];
    private readonly HashSet<EntryContext> _early = [];
    private ReturnPathWriter? _path;
    private bool _counted;

    /// <summary>True once the source may switch over.</summary>
    internal bool Given { get; private set; }

    /// <summary>A device needs to approve.</summary>
    internal void Need(EntryContext context)
    {
        lock (_gate)
        {
            if (!_early.Contains(context))
            {
                _missing.Add(context);
            }
        }
    }

    /// <summary>All devices have been asked.</summary>
    internal void Counted()
    {
        lock (_gate)
        {
            _counted = true;
            SendIfDue();
        }
    }

    /// <summary>The return path is open.</summary>
    internal void Open(ReturnPathWriter path)
    {
        lock (_gate)
        {
            _path = path;
            SendIfDue();
        }
    }

    /// <summary>A device approves; before it is asked, too.</summary>
    internal void Give(EntryContext context)
    {
        lock (_gate)
        {
            _missing.Remove(context);
            _early.Add(context);
            SendIfDue();
        }
    }

    private void SendIfDue()
    {
        if (_counted && !Given && _path is not null && _missing.Count == 0)
        {
            Given = true;
            _path.Acknowledge();
        }
    }
}
