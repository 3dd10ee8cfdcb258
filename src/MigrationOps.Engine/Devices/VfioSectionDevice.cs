using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Devices;

/// <summary>
/// A VFIO device as a device of a migration stream: its state goes in the sections in which QEMU writes it, or, in a migration with
/// multifd channels, in QEMU's packets over them. The device is opened when a migration begins.
/// </summary>
/// <remarks>
/// <code>
/// source: RUNNING → [PRE_COPY: PART sections] → STOP_COPY: END section, or packets → STOP; after a failure back to where it was
/// target: RESUMING at setup → STOP when all has come → RUNNING once the migration has succeeded; after a failure reset
/// </code>
/// What a VMM keeps of the device, its PCI configuration space, is not the device's own: what comes is checked and not loaded, and what
/// is sent is what a VMM has before a guest has touched the device (<see cref="PciConfigState"/>).
/// </remarks>
internal sealed class VfioSectionDevice : ISaveVmHandlers, IDisposable
{
    private const int BlockSize = 1024 * 1024;

    private readonly Func<IVfioDriver> _open;
    private readonly ReassemblyOptions _bounds;
    private readonly ManualResetEvent _complete = new(false);
    private VfioDevice? _device;
    private VfioState _rest;
    private TransferScope? _scope;
    private DeviceStateReceiver? _receiver;
    private SectionReader? _sections;
    private bool _switchedOver;
    private SectionPreCopy? _preCopy;

    /// <summary>A device that is not open yet.</summary>
    /// <param name="open">Opens the device; it is disposed at the end of each migration.</param>
    /// <param name="bounds">Memory for packets that come out of order; null for the usual.</param>
    public VfioSectionDevice(Func<IVfioDriver> open, ReassemblyOptions? bounds = null)
    {
        ArgumentNullException.ThrowIfNull(open);
        _open = open;
        _bounds = bounds ?? new ReassemblyOptions();
    }

    /// <inheritdoc/>
    public void SavePrepare(SaveVmContext context)
    {
        Open(context);
        try
        {
            _rest = _device!.RestState;
        }
        catch
        {
            // It holds nothing that could be sent, and stays as it was found.
            Close();
            throw;
        }
    }

    /// <inheritdoc/>
    public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context)
    {
        _preCopy!.Begin();
        new MarkerWriter(stream).WriteSetup();
    }

    /// <inheritdoc/>
    public bool IsActiveIterate(SaveVmContext context) => _preCopy!.IsActive;

    /// <inheritdoc/>
    public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context) => _preCopy!.Iterate(stream, context);

    /// <summary>What was left in pre-copy after the last turn.</summary>
    /// <inheritdoc/>
    public PendingBytes StatePendingEstimate(SaveVmContext context) => _preCopy!.Estimate(context);

    /// <summary>What is left in pre-copy, and what the device will give once it has stopped.</summary>
    /// <inheritdoc/>
    public PendingBytes StatePendingExact(SaveVmContext context) => _preCopy!.Exact(context);

    /// <inheritdoc/>
    public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        var writer = new MarkerWriter(stream);
        if (context.MultifdChannels == 0)
        {
            ReadAll(data => writer.WriteData(data.Span));
        }

        writer.Write(VfioMarker.EndOfState);
    }

    /// <inheritdoc/>
    public void SaveLiveCompletePrecopyThread(Action<ReadOnlyMemory<byte>> send, SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(send);
        uint index = 0;
        byte[] packet = new byte[VfioPacketHeader.Size + BlockSize];
        ReadAll(data => Send(data, isConfig: false));
        Send(_device!.ReadConfigState(), isConfig: true);

        void Send(ReadOnlyMemory<byte> data, bool isConfig)
        {
            VfioPacketHeader.For(index++, isConfig).Write(packet);
            data.CopyTo(packet.AsMemory(VfioPacketHeader.Size));
            send(packet.AsMemory(0, VfioPacketHeader.Size + data.Length));
        }
    }

    /// <inheritdoc/>
    public void SaveState(SaveVmSaveStream stream, SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        var writer = new MarkerWriter(stream);
        if (context.MultifdChannels == 0)
        {
            writer.WriteConfig(_device!.ReadConfigState());
        }
        else
        {
            writer.Write(VfioMarker.EndOfState);
        }
    }

    /// <inheritdoc/>
    public void SaveCleanup(SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        try
        {
            _device?.Enter(context.Owner == MigrationOwner.Source ? _rest : VfioState.Stop);
        }
        finally
        {
            Close();
        }
    }

    /// <inheritdoc/>
    public void LoadSetup(SaveVmContext context)
    {
        Open(context);
        _complete.Reset();
        _switchedOver = false;
        _receiver = new DeviceStateReceiver(_bounds, (_, _) => new DeviceSink(_device!, VfioState.Stop, _scope!), context.CancellationToken);
        _sections = new SectionReader(_receiver.Open(context.IdStr, context.InstanceId), context.IdStr);
        context.StartLoadThread(token => AwaitAll(context, token));
    }

    /// <inheritdoc/>
    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(context);
        int marks = _receiver!.InitialDataMarks;
        byte[] buffer = new byte[64 * 1024];
        int held = 0;
        bool ended = false;
        _sections!.Begin(_switchedOver ? SectionKind.End : SectionKind.Part, stream.StreamOffset);
        while (!ended)
        {
            int wanted = _sections.CountNeededBytes(buffer.AsSpan(0, held), buffer.Length);
            if (held + wanted > buffer.Length)
            {
                // A config state, which the parser limits.
                Array.Resize(ref buffer, 2 * buffer.Length);
            }

            stream.ReadExactly(buffer, held, wanted);
            held += wanted;
            var reader = _sections.Over(buffer.AsSpan(0, held));
            ended = _sections.Read(ref reader);
            reader.Rest.CopyTo(buffer);
            held = reader.Remaining;
        }

        if (_receiver.InitialDataMarks != marks)
        {
            context.ApproveSwitchover();
        }

        SignalIfComplete();
    }

    /// <inheritdoc/>
    public bool SwitchoverAckNeeded(SaveVmContext context) => _device!.Flags.HasFlag(VfioMigrationFlags.PreCopy);

    /// <inheritdoc/>
    public void SwitchoverStart(SaveVmContext context)
    {
        _switchedOver = true;
        _receiver!.EndPreCopy(allAnnounced: true);
        SignalIfComplete();
    }

    /// <inheritdoc/>
    public void LoadStateBuffer(ReadOnlyMemory<byte> data, SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        _receiver!.Receive(context.IdStr, context.InstanceId, data);
        SignalIfComplete();
    }

    /// <inheritdoc/>
    public void LoadCleanup(SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        try
        {
            bool complete = _receiver?.IsComplete == true;
            _receiver?.Dispose();
            if (complete && context.Owner == MigrationOwner.Target)
            {
                _device!.Enter(VfioState.Running);
            }
            else if (complete)
            {
                // The source resumes, so this device must not run.
                _device!.Reset();
            }
        }
        finally
        {
            Close();
        }
    }

    /// <summary>Closes the device, in whatever state it is.</summary>
    public void Dispose()
    {
        _receiver?.Dispose();
        Close();
        _complete.Dispose();
    }

    private void Open(SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        Close();
        _scope = new TransferScope(Timeout.InfiniteTimeSpan, context.CancellationToken);
        _device = new VfioDevice(_open());
        _preCopy = new SectionPreCopy(_device, _scope);
        try
        {
            RequireStopCopy(_device);
        }
        catch
        {
            // Nothing has happened to it, so no cleanup shall touch it.
            Close();
            throw;
        }
    }

    private static void RequireStopCopy(VfioDevice device)
    {
        if (!device.Flags.HasFlag(VfioMigrationFlags.StopCopy))
        {
            throw new VfioException(VfioError.NotMigratable, $"'{device.Path}' cannot migrate: it lacks STOP_COPY.") { Target = device.Path };
        }
    }

    private void Close()
    {
        _device?.Dispose();
        _scope?.Dispose();
        (_device, _scope, _receiver, _sections, _preCopy) = (null, null, null, null, null);
    }

    private void AwaitAll(SaveVmContext context, CancellationToken token)
    {
        int which = WaitHandle.WaitAny([_complete, token.WaitHandle, context.StreamEnded.WaitHandle]);
        token.ThrowIfCancellationRequested();
        if (which != 0)
        {
            // A source that did not announce the switchover has ended pre-copy with its stream.
            _receiver!.EndPreCopy(allAnnounced: true);
            _receiver.Complete();
        }
    }

    private void SignalIfComplete()
    {
        if (_receiver!.IsComplete)
        {
            _complete.Set();
        }
    }

    private void ReadAll(Action<ReadOnlyMemory<byte>> take)
    {
        _device!.Enter(VfioState.StopCopy);
        byte[] buffer = new byte[BlockSize];
        using (var data = _device.OpenData(FileAccess.Read, _scope!))
        {
            int count;
            while ((count = _device.ReadData(data, buffer, inPreCopy: false)) > 0)
            {
                take(buffer.AsMemory(0, count));
            }
        }

        _device.Enter(VfioState.Stop);
    }
}
