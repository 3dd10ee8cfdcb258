using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// A VFIO device that migrates: takes it from state to state the shortest legal way, and owns the data descriptor as long
/// as the device is in a state that has one.
/// </summary>
public sealed class VfioDevice(IVfioDriver driver) : IDisposable
{
    private SafeFileHandle? _data;

    /// <summary>The device's path.</summary>
    public string Path => driver.Path;

    /// <summary>What the device can do.</summary>
    /// <exception cref="VfioException"><see cref="VfioError.NotMigratable"/>.</exception>
    public VfioMigrationFlags Flags => driver.GetFlags()
        ?? throw new VfioException(VfioError.NotMigratable, $"'{Path}' cannot migrate: its driver does not offer it.") { Target = Path };

    /// <summary>The state it is in.</summary>
    public VfioState State => driver.GetState();

    /// <summary>Bytes that STOP_COPY would give now, about; null if the driver does not say.</summary>
    public long? StopCopySize => driver.GetStopCopySize();

    /// <summary>The descriptor to read state from or write it to; null in states without one. It stays the device's.</summary>
    public SafeFileHandle? Data => _data;

    /// <summary>Takes the device into a state.</summary>
    /// <exception cref="VfioException"><see cref="VfioError.DeviceInError"/>, <see cref="VfioError.StateNotSupported"/>,
    /// <see cref="VfioError.TransitionFailed"/>.</exception>
    public void Enter(VfioState target)
    {
        var from = State;
        if (from == VfioState.Error)
        {
            DropData();
            throw new VfioException(VfioError.DeviceInError, $"'{Path}' is in the ERROR state.") { Target = Path };
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

    /// <summary>Opens the data descriptor as a stream; the stream does not own it.</summary>
    internal FdStream OpenData(FileAccess access, TransferScope scope)
        => new(Fcntl.Duplicate(_data!, Path), access, scope, Path);

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

            int count = driver.Read(_data!, buffer);
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
        int error = driver.GetPreCopyInfo(_data!, out var info);
        return error == 0 ? info : throw new VfioException(VfioError.DataTransferFailed,
            $"'{Path}' does not say what is left in pre-copy: {NativeError.Describe(error)}.")
        { Target = Path };
    }

    /// <summary>Compares a config state with the device, as QEMU does before it loads one.</summary>
    /// <param name="config">The config state; one without a PCI configuration space fits every device.</param>
    /// <exception cref="VfioException"><see cref="VfioError.WrongDevice"/>.</exception>
    internal void CheckConfig(ReadOnlySpan<byte> config)
    {
        Span<byte> space = stackalloc byte[PciIdentity.Size];
        if (PciIdentity.OfConfigState(config) is { } saved && driver.ReadConfig(space) == space.Length
            && PciIdentity.Parse(space) is var own && own != saved)
        {
            throw new VfioException(VfioError.WrongDevice, $"'{Path}' is a {own}, and the state is that of a {saved}.") { Target = Path };
        }
    }

    private void Step(VfioState from, VfioState to)
    {
        int error = driver.SetState(to, out var data);
        if (error != 0)
        {
            // Whatever was read or written through it belongs to a stream that will not be completed.
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
