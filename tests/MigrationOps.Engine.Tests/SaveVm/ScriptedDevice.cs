using MigrationOps.Engine.SaveVm;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>What happened, in order, on both sides.</summary>
internal sealed class CallLog
{
    private readonly List<string> _calls = [];

    internal string[] Calls
    {
        get
        {
            lock (_calls)
            {
                return [.. _calls];
            }
        }
    }

    /// <summary>Told of each call, with its number from 0, on the thread that makes it.</summary>
    internal Action<int>? OnCall { get; set; }

    internal void Add(string call)
    {
        int number;
        lock (_calls)
        {
            number = _calls.Count;
            _calls.Add(call);
        }

        OnCall?.Invoke(number);
    }

    internal int Count(string call) => Calls.Count(c => c == call);

    /// <summary>The calls without the questions, which come any number of times.</summary>
    internal string[] Steps => [.. Calls.Where(c => !c.Contains("Pending", StringComparison.Ordinal) && !c.Contains("IsActive", StringComparison.Ordinal) && !c.Contains("HasPostcopy", StringComparison.Ordinal))];
}

/// <summary>
/// A device whose state is a byte array that it sends in pieces while it runs and rebuilds on the target; every call is
/// logged, and any handler can be made to do something else first.
/// </summary>
internal sealed class ScriptedDevice(string name, CallLog log, SaveVmHandler offered) : ISaveVmHandlers
{
    internal const SaveVmHandler Load = SaveVmHandler.LoadSetup | SaveVmHandler.LoadState | SaveVmHandler.LoadCleanup | SaveVmHandler.SwitchoverStart;

    internal const SaveVmHandler Live = SaveVmHandler.SavePrepare | SaveVmHandler.SaveSetup | SaveVmHandler.SaveLiveIterate
        | SaveVmHandler.StatePendingEstimate | SaveVmHandler.StatePendingExact | SaveVmHandler.SaveLiveCompletePrecopy
        | SaveVmHandler.SaveCleanup | Load;

    /// <summary>A device that may finish on the running target, and after a lost connection.</summary>
    internal const SaveVmHandler Late = Live | SaveVmHandler.HasPostcopy | SaveVmHandler.SaveLiveCompletePostcopy | SaveVmHandler.ResumePrepare;

    internal const SaveVmHandler Whole = SaveVmHandler.SavePrepare | SaveVmHandler.SaveState | SaveVmHandler.SaveCleanup | Load;

    private readonly List<byte> _loaded = [];
    private int _sent;

    public SaveVmHandler Offered => offered;

    internal byte[] State { get; init; } = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

    internal byte[] Loaded => [.. _loaded];

    internal int Piece { get; init; } = 4;

    /// <summary>Done at the start of a handler, before it does its work.</summary>
    internal Dictionary<SaveVmHandler, Action<SaveVmContext, Stream?>> Before { get; } = [];

    internal bool Active { get; set; } = true;

    internal bool ActiveIterate { get; set; } = true;

    internal Func<PendingBytes>? Estimate { get; init; }

    internal Func<PendingBytes>? Exact { get; init; }

    internal int LoadedVersion { get; private set; } = -1;

    /// <summary>What the target has, so that a resumed source knows where to continue.</summary>
    internal Func<int>? Arrived { get; set; }

    private PendingBytes Left => offered.HasFlag(SaveVmHandler.HasPostcopy) ? new(0, State.Length - _sent) : new(State.Length - _sent);

    internal ScriptedDevice On(SaveVmHandler handler, Action<SaveVmContext, Stream?> action)
    {
        Before[handler] = action;
        return this;
    }

    public void SaveState(SaveVmSaveStream stream, SaveVmContext context)
    {
        Enter(SaveVmHandler.SaveState, context, stream);
        Put(stream, State);
    }

    public void SavePrepare(SaveVmContext context) => Enter(SaveVmHandler.SavePrepare, context);

    public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context)
    {
        Enter(SaveVmHandler.SaveSetup, context, stream);
        Put(stream, []);
    }

    public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
    {
        Enter(SaveVmHandler.SaveLiveIterate, context, stream);
        int count = Math.Min(Piece, State.Length - _sent);
        Put(stream, State.AsSpan(_sent, count));
        _sent += count;
        return _sent == State.Length;
    }

    public PendingBytes StatePendingEstimate(SaveVmContext context)
    {
        Enter(SaveVmHandler.StatePendingEstimate, context);
        return Estimate?.Invoke() ?? Left;
    }

    public PendingBytes StatePendingExact(SaveVmContext context)
    {
        Enter(SaveVmHandler.StatePendingExact, context);
        return Exact?.Invoke() ?? Left;
    }

    public bool IsActive(SaveVmContext context)
    {
        Enter(SaveVmHandler.IsActive, context);
        return Active;
    }

    public bool IsActiveIterate(SaveVmContext context)
    {
        Enter(SaveVmHandler.IsActiveIterate, context);
        return ActiveIterate;
    }

    public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context)
    {
        Enter(SaveVmHandler.SaveLiveCompletePrecopy, context, stream);
        Put(stream, State.AsSpan(_sent));
        _sent = State.Length;
    }

    public bool HasPostcopy(SaveVmContext context)
    {
        Enter(SaveVmHandler.HasPostcopy, context);
        return true;
    }

    public void SaveLiveCompletePostcopy(SaveVmSaveStream stream, SaveVmContext context)
    {
        Enter(SaveVmHandler.SaveLiveCompletePostcopy, context, stream);
        Put(stream, State.AsSpan(_sent));
        _sent = State.Length;
    }

    public void ResumePrepare(SaveVmContext context)
    {
        Enter(SaveVmHandler.ResumePrepare, context);
        _sent = Arrived?.Invoke() ?? _sent;
    }

    public void SaveCleanup(SaveVmContext context) => Enter(SaveVmHandler.SaveCleanup, context);

    public void LoadSetup(SaveVmContext context) => Enter(SaveVmHandler.LoadSetup, context);

    public void LoadCleanup(SaveVmContext context) => Enter(SaveVmHandler.LoadCleanup, context);

    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
    {
        Enter(SaveVmHandler.LoadState, context, stream);
        LoadedVersion = versionId;
        _loaded.AddRange(stream.ReadBytes((int)stream.ReadUInt32()));
    }

    public bool SwitchoverAckNeeded(SaveVmContext context)
    {
        Enter(SaveVmHandler.SwitchoverAckNeeded, context);
        return true;
    }

    public void SwitchoverStart(SaveVmContext context) => Enter(SaveVmHandler.SwitchoverStart, context);

    private static void Put(SaveVmSaveStream stream, ReadOnlySpan<byte> data)
    {
        stream.WriteUInt32((uint)data.Length);
        stream.Write(data);
    }

    private void Enter(SaveVmHandler handler, SaveVmContext context, Stream? stream = null)
    {
        log.Add($"{name}.{handler}");
        if (Before.TryGetValue(handler, out var action))
        {
            action(context, stream);
        }
    }
}

/// <summary>Registries and runs in few words.</summary>
internal static class Migrations
{
    internal static SaveVmRegistry Registry(params (string IdStr, ISaveVmHandlers Handlers)[] devices)
    {
        var registry = new SaveVmRegistry();
        foreach (var (idStr, handlers) in devices)
        {
            registry.Register(idStr, SaveVmRegistry.AnyInstance, 1, handlers);
        }

        return registry;
    }
}
