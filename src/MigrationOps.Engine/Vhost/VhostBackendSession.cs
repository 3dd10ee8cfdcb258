using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vhost;

/// <summary>One front-end's connection to the embedded back-end.</summary>
internal sealed class VhostBackendSession(VhostBackend backend, UnixConnection connection) : IDisposable
{
    private readonly FdQueue _received = new();
    private ulong _protocolFeatures;
    private bool _transferred;
    private bool _failed;

    private VhostBackendOptions Options => backend.Options;

    private VhostBackendFault Fault => Options.Fault;

    /// <summary>Serves requests until the front-end leaves, or a fault ends the connection.</summary>
    internal void Run()
    {
        byte[] header = new byte[VhostUserHeader.Length];
        byte[] payload = new byte[VhostUserHeader.MaxPayload];
        while (connection.TryReceiveExactly(header, _received, Never, "a request"))
        {
            var reader = WireReader.LittleEndian(header);
            VhostUserHeader.TryRead(ref reader, out var request);
            if (!request.HasKnownVersion || request.Size > VhostUserHeader.MaxPayload)
            {
                throw new VhostException(VhostError.WrongVersion, $"The front-end sent flags 0x{request.Flags:x} and {request.Size} bytes.");
            }

            var content = payload.AsSpan(0, (int)request.Size);
            if (!connection.TryReceiveExactly(content, _received, Never, "a request's payload"))
            {
                return;
            }

            bool goesOn = Answer(request, content);
            _received.CloseUnclaimed();
            if (!goesOn)
            {
                return;
            }
        }
    }

    public void Dispose() => _received.Dispose();

    private static Deadline Never => new(Timeout.InfiniteTimeSpan);

    private bool Answer(VhostUserHeader request, ReadOnlySpan<byte> payload)
    {
        if (Fault.Hits(request.Request, VhostBackendFaultKind.Hangup))
        {
            return false;
        }

        if (Fault.Hits(request.Request, VhostBackendFaultKind.NoReply))
        {
            connection.WaitForHangup(Never, "the front-end to give up");
            return false;
        }

        switch (request.Request)
        {
            case VhostUserRequest.GetFeatures:
                Reply(request, Options.Features);
                return true;
            case VhostUserRequest.GetProtocolFeatures:
                Reply(request, Options.ProtocolFeatures);
                return true;
            case VhostUserRequest.GetQueueNum:
                Reply(request, Options.Queues);
                return true;
            case VhostUserRequest.SetProtocolFeatures when payload.Length == sizeof(ulong):
                _protocolFeatures = BinaryPrimitives.ReadUInt64LittleEndian(payload);
                break;
            case VhostUserRequest.SetDeviceStateFd:
                return Transfer(request, payload);
            case VhostUserRequest.CheckDeviceState:
                Reply(request, _transferred && !_failed && Fault.Kind != VhostBackendFaultKind.FailCheck ? 0UL : 1UL);
                return true;
        }

        if (request.NeedsReply && (_protocolFeatures & VhostFeatures.ReplyAck) != 0)
        {
            Reply(request, 0);
        }

        return true;
    }

    private bool Transfer(VhostUserHeader request, ReadOnlySpan<byte> payload)
    {
        // As real back-ends do: a malformed request ends the connection.
        using var theirs = _received.Take();
        if (payload.Length != 8 || theirs is null)
        {
            return false;
        }

        uint direction = BinaryPrimitives.ReadUInt32LittleEndian(payload);
        if (direction > 1 || BinaryPrimitives.ReadUInt32LittleEndian(payload[4..]) != (uint)VhostTransferPhase.Stopped)
        {
            return false;
        }

        bool save = direction == (uint)VhostTransferDirection.Save;
        if (Fault.Kind == VhostBackendFaultKind.Refuse)
        {
            Reply(request, 1 | DeviceStateReply.NoDescriptor);
            return true;
        }

        using var handle = AgreeOnChannel(request, save, theirs);
        using var channel = new FdStream(handle, save ? FileAccess.Write : FileAccess.Read, connection.Scope, "the transfer's channel");
        return Move(channel, save);
    }

    private SafeFileHandle AgreeOnChannel(VhostUserHeader request, bool save, SafeFileHandle theirs)
    {
        if (Fault.Kind == VhostBackendFaultKind.AnnounceMissingDescriptor)
        {
            Reply(request, 0);
        }
        else if (Fault.Kind == VhostBackendFaultKind.SendUnannouncedDescriptor)
        {
            Reply(request, DeviceStateReply.NoDescriptor, theirs);
        }
        else if (!Options.OwnDescriptor)
        {
            Reply(request, DeviceStateReply.NoDescriptor);
        }
        else
        {
            var (read, write) = Pipe.Create();
            var (ours, peers) = save ? (write, read) : (read, write);
            using (peers)
            {
                Reply(request, 0, peers);
            }

            return ours;
        }

        return Fcntl.Duplicate(theirs, "the transfer's channel");
    }

    private bool Move(FdStream channel, bool save)
    {
        _transferred = true;
        _failed = false;
        try
        {
            using var counted = new FaultyStream(channel, Fault, save ? backend.CountSaved : backend.CountLoaded);
            if (save)
            {
                Options.State.WriteTo(counted);
            }
            else
            {
                Options.State.ReadFrom(counted);
            }

            return true;
        }
        catch (FaultyStream.FaultException)
        {
            return InjectFault();
        }
        catch (Exception e) when (e is not OperationCanceledException || !connection.Scope.CancellationToken.IsCancellationRequested)
        {
            // Whatever went wrong with the state is told at CHECK_DEVICE_STATE, the only place for it. A state can be
            // code of any author, and what it throws must not end the process that lent it a thread.
            backend.ReportStateFailure(e);
            _failed = true;
            return true;
        }
    }

    private bool InjectFault()
    {
        if (Fault.Kind == VhostBackendFaultKind.Stall)
        {
            connection.WaitForHangup(Never, "the front-end to give up");
        }

        _failed = true;
        return Fault.Kind == VhostBackendFaultKind.FailAtByte;
    }

    private void Reply(VhostUserHeader request, ulong value, params ReadOnlySpan<SafeHandle> descriptors)
    {
        bool hit = Fault.AtRequest == request.Request;
        var id = hit && Fault.Kind == VhostBackendFaultKind.WrongRequestId ? VhostUserRequest.ResetDevice : request.Request;
        uint version = hit && Fault.Kind == VhostBackendFaultKind.WrongVersion ? 2 : VhostUserHeader.Version;
        var payload = VhostUserHeader.Payload(value).AsSpan(0, hit && Fault.Kind == VhostBackendFaultKind.WrongSize ? 4 : 8);
        connection.Send(VhostUserHeader.Compose(id, version | VhostUserHeader.ReplyFlag, payload), descriptors, Never, "a reply");
    }
}
