namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Tells the source on the target that it may switch over. Where the source waits for one acknowledgement, it goes out when the return
/// path is open, all devices have been asked, and none is missing - at once, if none needs it. Where the source counts what its
/// devices ask for, each approval goes out as it comes.
/// </summary>
internal sealed class SwitchoverApproval
{
    private readonly Lock _gate = new();
    private readonly HashSet<EntryContext> _missing = [];
    private readonly HashSet<EntryContext> _early = [];
    private ReturnPathWriter? _path;
    private bool _counted;
    private bool _perDevice;
    private int _unsent;

    /// <summary>True once an acknowledgement has gone out.</summary>
    internal bool Given { get; private set; }

    /// <summary>Each approval is an acknowledgement.</summary>
    internal void CountPerDevice()
    {
        lock (_gate)
        {
            _perDevice = true;
            SendIfDue();
        }
    }

    /// <summary>A device needs to approve.</summary>
    internal void RequireApproval(EntryContext context)
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
    internal void AddApproval(EntryContext context)
    {
        lock (_gate)
        {
            _missing.Remove(context);
            _early.Add(context);
            _unsent++;
            SendIfDue();
        }
    }

    private void SendIfDue()
    {
        if (_path is null)
        {
            return;
        }

        if (_perDevice)
        {
            for (; _unsent > 0; _unsent--)
            {
                Given = true;
                _path.Acknowledge();
            }
        }
        else if (_counted && !Given && _missing.Count == 0)
        {
            Given = true;
            _path.Acknowledge();
        }
    }
}
