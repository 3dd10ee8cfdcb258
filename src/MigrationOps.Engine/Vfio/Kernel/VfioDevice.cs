using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// A VFIO device that migrates: takes it from state to state the shortest legal way, and owns the data descriptor as long
/// as the device is in a state that has one.
/// </summary>
internal sealed class VfioDevice(IVfioDriver driver) : IDisposable
{
    private SafeFileHandle? _data;

    /// <summary>The device's path.</summary>
    public string Path => driver.Path;

    /// <summary>Hears what is done to the device after a failure, so that an operator knows what it was left in.</summary>
    internal Action<string>? Notice { get; init; }

    /// <summary>What the device can do.</summary>
    /// <exception cref="VfioException"><see cref="VfioError.NotMigratable"/>.</exception>
    public VfioMigrationFlags Flags => driver.GetFlags() ?? throw NotMigratable();

    /// <summary>The state it is in.</summary>
    /// <exception cref="VfioException"><see cref="VfioError.NotMigratable"/>.</exception>
    public VfioState State => driver.GetFlags() is null ? throw NotMigratable() : driver.GetState();

    /// <summary>Bytes that STOP_COPY would give now, about; null if the driver does not say.</summary>
    public long? StopCopySize => driver.GetStopCopySize();

    /// <summary>The descriptor to read state from or write it to; null in states without one. It stays the device's.</summary>
    public SafeFileHandle? Data => _data;

    /// <summary>Takes the device into a state, from whatever state it is in.</summary>
    /// <remarks>
    /// A device that is in a state with data, and whose data descriptor is not here, was left there by a process that ended: that state
    /// is left first. What a device in STOP_COPY or pre-copy has is still in it, and is given again from the start.
    /// </remarks>
    /// <exception cref="VfioException"><see cref="VfioError.DeviceInError"/>, <see cref="VfioError.LoadInterrupted"/>,
    /// <see cref="VfioError.StateNotSupported"/>, <see cref="VfioError.TransitionFailed"/>.</exception>
    public void Enter(VfioState target)
    {
        var from = RequireWhole();
        if (_data is null && VfioStateMachine.MovesData(from))
        {
            var rest = RestOf(from);
            Step(from, rest);
            from = rest;
        }

        var path = VfioStateMachine.Has(target, Flags) ? VfioStateMachine.ShortestPath(from, target, Flags) : null;
        if (path is null)
        {
            throw new VfioException(VfioError.StateNotSupported,
                $"'{Path}' cannot go from {Name(from)} to {Name(target)}: it has {Flags}.")
            { Target = Path };
        }

        foreach (var next in path)
        {
            Step(from, next);
            from = next;
        }
    }

    /// <summary>The state without data next to the one that the device is in: where it goes back to after a failure.</summary>
    /// <exception cref="VfioException"><see cref="VfioError.DeviceInError"/>, <see cref="VfioError.LoadInterrupted"/>.</exception>
    internal VfioState RestState => RestOf(RequireWhole());

    /// <summary>True if the device holds no state that could run or be saved: ERROR, or a load that was not ended.</summary>
    internal bool IsLost => State is VfioState.Error || (State == VfioState.Resuming && _data is null);

    /// <summary>Brings the device back to RUNNING: with the state that it has, or, with a reset, without.</summary>
    /// <exception cref="VfioException"><see cref="VfioError.DeviceInError"/> and <see cref="VfioError.LoadInterrupted"/> without a reset:
    /// from there only a reset leads back.</exception>
    internal VfioStateChange Resume(bool reset)
    {
        var before = State;
        if (reset)
        {
            Reset();
        }

        // After a reset too: some drivers keep their migration state over it.
        Enter(VfioState.Running);
        return new VfioStateChange { Path = Path, Before = Name(before), After = Name(State), WasReset = reset };
    }

    /// <summary>After a failure: takes the device back to where it was, and says where it is. Never fails itself.</summary>
    internal void ReturnTo(VfioState rest)
    {
        try
        {
            Enter(rest);
            Notice?.Invoke($"'{Path}' is back in {Name(rest)} and has lost nothing.");
        }
        catch (MigrationOpsException e)
        {
            Notice?.Invoke($"'{Path}' did not go back to {Name(rest)}: {e.Message} {e.RecommendedAction}");
        }
    }

    /// <summary>After a failed load: resets the device, and says so. Never fails itself.</summary>
    internal void DropLoad()
    {
        try
        {
            Reset();
            Notice?.Invoke($"'{Path}' was reset, because half a state must not run: it is in {Name(State)} and holds no state.");
        }
        catch (MigrationOpsException e)
        {
            Notice?.Invoke($"'{Path}' holds half a state, and {e.Message} {e.RecommendedAction}");
        }
    }

    /// <summary>Leaves the ERROR state, or any other: the device runs afterwards and has forgotten everything.</summary>
    public void Reset()
    {
        DropData();
        int error = driver.Reset();
        if (error != 0)
        {
            throw new VfioException(VfioError.TransitionFailed, $"'{Path}' cannot be reset: {NativeError.Describe(error)}.") { Target = Path };
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        DropData();
        driver.Dispose();
    }

    /// <summary>The state's name in the kernel's documents.</summary>
    public static string Name(VfioState state) => state switch
    {
        VfioState.StopCopy => "STOP_COPY",
        VfioState.RunningP2P => "RUNNING_P2P",
        VfioState.PreCopy => "PRE_COPY",
        VfioState.PreCopyP2P => "PRE_COPY_P2P",
        _ => state.ToString().ToUpperInvariant(),
    };

    internal VfioException NotMigratable()
        => new(VfioError.NotMigratable, $"'{Path}' cannot migrate: its driver does not offer it.") { Target = Path };

    /// <summary>Opens the data descriptor as a stream; the stream does not own it.</summary>
    internal FdStream OpenData(FileAccess access, TransferScope scope)
        => new(Fcntl.Duplicate(OwnData, Path), access, scope, Path);

    /// <summary>Reads from the data descriptor.</summary>
    /// <param name="bounds">A stream over it, for deadline and cancellation.</param>
    /// <param name="buffer">Where the state goes.</param>
    /// <param name="inPreCopy">True in a pre-copy state: there a read never waits, and some drivers make poll(2) wait for data
    /// that a device which does not change never has.</param>
    /// <returns>Bytes read; 0 at the end, or where pre-copy has nothing now.</returns>
    internal int ReadData(FdStream bounds, Span<byte> buffer, bool inPreCopy)
    {
        while (true)
        {
            bounds.ThrowIfCancelled();
            if (!inPreCopy)
            {
                bounds.WaitFor(PollEvents.Readable, bounds.StartDeadline());
            }

            int count = driver.Read(OwnData, buffer);
            switch (-count)
            {
                case NativeError.EAGAIN or NativeError.EINTR:
                    continue;
                case NativeError.ENOMSG:
                    return 0;
                case > 0:
                    throw new VfioException(VfioError.DataTransferFailed,
                        $"'{Path}' does not give its state: {NativeError.Describe(-count)}.")
                    { Target = Path };
                default:
                    return count;
            }
        }
    }

    /// <summary>What is left in pre-copy.</summary>
    internal PreCopyInfo GetPreCopyInfo()
    {
        int error = driver.GetPreCopyInfo(OwnData, out var info);
        return error == 0 ? info : throw new VfioException(VfioError.DataTransferFailed,
            $"'{Path}' does not say what is left in pre-copy: {NativeError.Describe(error)}.")
        { Target = Path };
    }

    /// <summary>The config state that goes with the device's data: QEMU's view of the device before a guest touched it.</summary>
    internal byte[] ReadConfigState()
    {
        Span<byte> space = stackalloc byte[PciConfigState.SpaceSize];
        return PciConfigState.Build(space[..driver.ReadConfig(space)]);
    }

    /// <summary>Compares a config state with the device, as QEMU does before it loads one.</summary>
    /// <param name="config">The config state; one without a PCI configuration space fits every device.</param>
    /// <exception cref="VfioException"><see cref="VfioError.WrongDevice"/>.</exception>
    internal void CheckConfig(ReadOnlySpan<byte> config)
    {
        Span<byte> space = stackalloc byte[PciIdentity.Size];
        if (PciIdentity.ParseConfigState(config) is { } saved && driver.ReadConfig(space) == space.Length
            && PciIdentity.Parse(space) is var own && own != saved)
        {
            throw new VfioException(VfioError.WrongDevice, $"'{Path}' is a {own}, and the state is that of a {saved}.") { Target = Path };
        }
    }

    private SafeFileHandle OwnData => _data ?? throw new VfioException(VfioError.DataTransferFailed,
        $"'{Path}' is in {Name(State)} and has no data descriptor here.")
    { Target = Path };

    private VfioState RequireWhole()
    {
        var state = State;
        if (state == VfioState.Error)
        {
            DropData();
            throw new VfioException(VfioError.DeviceInError, $"'{Path}' is in the ERROR state.") { Target = Path };
        }

        return state != VfioState.Resuming || _data is not null ? state : throw new VfioException(VfioError.LoadInterrupted,
            $"'{Path}' is in RESUMING: a load was begun and not ended, so it holds no whole state.")
        { Target = Path };
    }

    private static VfioState RestOf(VfioState state) => state switch
    {
        VfioState.StopCopy or VfioState.Resuming => VfioState.Stop,
        VfioState.PreCopy => VfioState.Running,
        VfioState.PreCopyP2P => VfioState.RunningP2P,
        _ => state,
    };

    private void Step(VfioState from, VfioState to)
    {
        int error = driver.SetState(to, out var data);
        if (error != 0)
        {
            // Whatever was read or written through it is part of a stream that will not be completed.
            data?.Dispose();
            DropData();
            throw new VfioException(VfioError.TransitionFailed,
                $"'{Path}' did not go from {Name(from)} to {Name(to)}: {NativeError.Describe(error)}; it is in {Name(driver.GetState())}.")
            { Target = Path };
        }

        if (data is not null)
        {
            DropData();
            _data = data;
        }
        else if (!VfioStateMachine.MovesData(to))
        {
            DropData();
        }

        if (VfioStateMachine.MovesData(to) && _data is null)
        {
            throw new VfioException(VfioError.DataTransferFailed, $"'{Path}' is in {Name(to)} and gave no data descriptor.") { Target = Path };
        }
    }

    private void DropData()
    {
        _data?.Dispose();
        _data = null;
    }
}
