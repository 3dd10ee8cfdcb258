using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vhost;

/// <summary>The part of a device's life in which state moves (VHOST_TRANSFER_STATE_PHASE).</summary>
internal enum VhostTransferPhase : uint
{
    /// <summary>The device and all its vrings are stopped.</summary>
    Stopped = 0,
}

/// <summary>
/// The front-end's side of a vhost-user connection, as far as device state needs it. Real back-ends enforce no order of
/// messages, so this side keeps it: <see cref="Negotiate"/>, then <see cref="SetDeviceStateFd"/> and
/// <see cref="CheckDeviceState"/> in turn. Every request has a deadline; every failure carries the transcript.
/// Not thread-safe.
/// </summary>
internal sealed class VhostFrontend : IDisposable
{
    private readonly UnixConnection _connection;
    private readonly VhostTranscript _transcript;
    private ulong _acceptedProtocolFeatures;
    private State _state = State.Connected;

    private VhostFrontend(UnixConnection connection, ILogger logger)
    {
        _connection = connection;
        _transcript = new VhostTranscript(logger);
        Peer = PeerProcessInfo.Of(connection.GetPeerCredentials());
        _transcript.Note($"connected to {connection.Name}: {Peer}");
    }

    private enum State
    {
        Connected,
        Negotiated,
        Transferring,
        Broken,
    }

    /// <summary>Path of the back-end's socket.</summary>
    public string SocketPath => _connection.Name;

    /// <summary>The back-end's process.</summary>
    public PeerProcessInfo Peer { get; }

    /// <summary>The virtio features that the back-end offers, after <see cref="Negotiate"/>.</summary>
    public ulong Features { get; private set; }

    /// <summary>The protocol features that the back-end offers, after <see cref="Negotiate"/>; 0 if it has none.</summary>
    public ulong ProtocolFeatures { get; private set; }

    /// <summary>True if the back-end offers to transfer its internal state (bit 19 of the protocol features).</summary>
    public bool SupportsDeviceState => (ProtocolFeatures & VhostFeatures.DeviceState) != 0;

    /// <summary>The messages so far, oldest first; the latest 64.</summary>
    public IReadOnlyList<string> Transcript => _transcript.Lines;

    /// <summary>Connects to a back-end that listens.</summary>
    /// <param name="socketPath">Path of its socket.</param>
    /// <param name="scope">Deadline of every request, and cancellation; it must outlive the front-end.</param>
    /// <param name="logger">Gets the transcript; null for none.</param>
    /// <exception cref="WireException">No such socket, not a socket, no listener, no access.</exception>
    public static VhostFrontend Connect(string socketPath, TransferScope scope, ILogger? logger = null)
    {
        var connection = Transport.ConnectUnix(socketPath, scope);
        try
        {
            return new VhostFrontend(connection, logger ?? NullLogger.Instance);
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Asks for the features, becomes the owner, asks for the protocol features and takes REPLY_ACK and DEVICE_STATE of
    /// what is offered. A back-end without protocol features is left at that: see <see cref="RequireDeviceState"/>.
    /// </summary>
    public void Negotiate()
    {
        Expect(State.Connected, "negotiation");
        Features = Ask(VhostUserRequest.GetFeatures, VhostFeatures.NamesOfFeatures);
        SendWithoutReply(VhostUserRequest.SetOwner, default, "");
        if ((Features & VhostFeatures.ProtocolFeatures) != 0)
        {
            ProtocolFeatures = Ask(VhostUserRequest.GetProtocolFeatures, VhostFeatures.NamesOfProtocolFeatures);
            ulong wanted = ProtocolFeatures & (VhostFeatures.ReplyAck | VhostFeatures.DeviceState | VhostFeatures.MultiQueue);
            SendWithoutReply(VhostUserRequest.SetProtocolFeatures, VhostUserHeader.Payload(wanted),
                $"0x{wanted:x} [{string.Join(", ", VhostFeatures.NamesOfProtocolFeatures(wanted))}]");
            _acceptedProtocolFeatures = wanted;
        }

        _state = State.Negotiated;
    }

    /// <summary>Throws unless the back-end can transfer its state.</summary>
    /// <exception cref="VhostException"><see cref="VhostError.NoProtocolFeatures"/> or <see cref="VhostError.NoDeviceState"/>.</exception>
    public void RequireDeviceState()
    {
        if ((Features & VhostFeatures.ProtocolFeatures) == 0)
        {
            throw Failure(VhostError.NoProtocolFeatures,
                $"{Describe()} offers no protocol features (its features are 0x{Features:x}: {List(VhostFeatures.NamesOfFeatures(Features))}).");
        }

        if (!SupportsDeviceState)
        {
            throw Failure(VhostError.NoDeviceState, $"{Describe()} cannot transfer its state: of the protocol features it offers "
                + $"0x{ProtocolFeatures:x} ({List(VhostFeatures.NamesOfProtocolFeatures(ProtocolFeatures))}), without DEVICE_STATE.");
        }
    }

    /// <summary>How many queues the back-end has; 1 if it does not tell.</summary>
    public ulong GetQueueCount()
    {
        Expect(State.Negotiated, "GET_QUEUE_NUM");
        return (_acceptedProtocolFeatures & VhostFeatures.MultiQueue) != 0
            ? Ask(VhostUserRequest.GetQueueNum, static _ => [])
            : 1;
    }

    /// <summary>
    /// Begins a transfer (vhost_set_device_state_fd). Afterwards whoever sends closes its end, and
    /// <see cref="CheckDeviceState"/> tells the outcome.
    /// </summary>
    /// <param name="direction">Save: the back-end writes; Load: it reads.</param>
    /// <param name="phase">The phase of the device's life.</param>
    /// <param name="descriptor">The back-end's end of the pipe. It is closed here, whatever happens: its ownership moves.</param>
    /// <returns>The back-end's own descriptor, if it prefers that; the caller owns it and must use it instead of the
    /// pipe. Null to use the pipe.</returns>
    /// <exception cref="VhostException">Refused, contradictory, silent, gone.</exception>
    public SafeFileHandle? SetDeviceStateFd(VhostTransferDirection direction, VhostTransferPhase phase, SafeFileHandle descriptor)
    {
        ArgumentNullException.ThrowIfNull(descriptor);
        using (descriptor)
        {
            if (!Enum.IsDefined(direction))
            {
                throw Failure(VhostError.UnknownDirection, $"{(uint)direction} is not a direction of a transfer.");
            }

            if (!Enum.IsDefined(phase))
            {
                throw Failure(VhostError.UnknownPhase, $"{(uint)phase} is not a phase of a transfer.");
            }

            Expect(State.Negotiated, "SET_DEVICE_STATE_FD");
            RequireDeviceState();
            Span<byte> payload = stackalloc byte[8];
            BinaryPrimitives.WriteUInt32LittleEndian(payload, (uint)direction);
            BinaryPrimitives.WriteUInt32LittleEndian(payload[4..], (uint)phase);
            Send(VhostUserRequest.SetDeviceStateFd, 0, payload, $"{direction.ToString().ToUpperInvariant()} STOPPED", [descriptor]);
        }

        using var received = new FdQueue();
        ulong reply = ReceiveReply(VhostUserRequest.SetDeviceStateFd, received, value => DeviceStateReply.Describe(value));
        var own = DeviceStateReply.Take(reply, received, direction, this);
        _state = State.Transferring;
        return own;
    }

    /// <summary>
    /// Asks whether the back-end processed everything (vhost_check_device_state). To be called once the transfer's
    /// descriptor is closed: before this no transfer has succeeded.
    /// </summary>
    /// <exception cref="VhostException"><see cref="VhostError.CheckFailed"/>, or the conversation failed.</exception>
    public void CheckDeviceState()
    {
        Expect(State.Transferring, "CHECK_DEVICE_STATE");
        Send(VhostUserRequest.CheckDeviceState, 0, default, "", default);
        using var received = new FdQueue();
        ulong reply = ReceiveReply(VhostUserRequest.CheckDeviceState, received, static value => value == 0 ? "success" : "failure");
        RejectDescriptors(received, VhostUserRequest.CheckDeviceState);
        _state = State.Negotiated;
        if (reply != 0)
        {
            throw Failure(VhostError.CheckFailed, $"{Describe()} says that the transfer failed on its side: CHECK_DEVICE_STATE "
                + $"gave 0x{reply:x}{DeviceStateReply.ErrnoHint(reply)}.");
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _connection.Dispose();

    /// <summary>The back-end in words: program, process, socket.</summary>
    internal string Describe() => $"The back-end {Peer} at '{SocketPath}'";

    internal VhostException Failure(VhostError reason, string message, Exception? inner = null)
        => new(reason, message, Transcript, inner) { Peer = Peer.ToString(), Target = SocketPath };

    /// <summary>The failure after which the conversation is closed: a later answer could be taken for another one's.</summary>
    internal VhostException Broken(VhostError reason, string message, Exception? inner = null)
    {
        _state = State.Broken;
        return Failure(reason, message, inner);
    }

    internal void Note(string text) => _transcript.Note(text);

    private static string List(string[] names) => names.Length == 0 ? "none" : string.Join(", ", names);

    private void Expect(State state, string what)
    {
        if (_state != state)
        {
            throw Failure(VhostError.OutOfOrder, $"{what} is out of order: the connection is in state {_state}, {state} is needed.");
        }
    }

    private ulong Ask(VhostUserRequest request, Func<ulong, string[]> names)
    {
        Send(request, 0, default, "", default);
        using var received = new FdQueue();
        ulong value = ReceiveReply(request, received, v => names(v) is { Length: > 0 } list ? $"[{string.Join(", ", list)}]" : "");
        RejectDescriptors(received, request);
        return value;
    }

    // A request without an answer of its own: acknowledged if REPLY_ACK was negotiated, else only sent.
    private void SendWithoutReply(VhostUserRequest request, ReadOnlySpan<byte> payload, string detail)
    {
        bool acknowledged = (_acceptedProtocolFeatures & VhostFeatures.ReplyAck) != 0;
        Send(request, acknowledged ? VhostUserHeader.NeedReplyFlag : 0, payload, detail, default);
        if (!acknowledged)
        {
            return;
        }

        using var received = new FdQueue();
        ulong reply = ReceiveReply(request, received, static value => value == 0 ? "ack" : "failure");
        RejectDescriptors(received, request);
        if (reply != 0)
        {
            throw Failure(VhostError.RequestRefused,
                $"{Describe()} refused {VhostUserHeader.NameOf(request)} with 0x{reply:x}{DeviceStateReply.ErrnoHint(reply)}.");
        }
    }

    private void Send(VhostUserRequest request, uint flags, ReadOnlySpan<byte> payload, string detail, ReadOnlySpan<SafeHandle> descriptors)
    {
        byte[] message = VhostUserHeader.Compose(request, VhostUserHeader.Version | flags, payload);
        string name = VhostUserHeader.NameOf(request);
        try
        {
            _connection.Send(message, descriptors, _connection.Scope.StartDeadline(), name);
        }
        catch (WireException e)
        {
            throw Translate(e, request, "could not be sent");
        }

        _transcript.Sent(request, (flags & VhostUserHeader.NeedReplyFlag) != 0 ? $"{detail} (need_reply)".TrimStart() : detail, descriptors.Length);
    }

    private ulong ReceiveReply(VhostUserRequest request, FdQueue received, Func<ulong, string> describe)
    {
        string name = VhostUserHeader.NameOf(request);
        Span<byte> header = stackalloc byte[VhostUserHeader.Length];
        Span<byte> payload = stackalloc byte[sizeof(ulong)];
        var deadline = _connection.Scope.StartDeadline();
        try
        {
            if (!_connection.TryReceiveExactly(header, received, deadline, $"the reply to {name}"))
            {
                throw Broken(VhostError.Disconnected, $"{Describe()} closed the connection instead of answering {name}.");
            }

            var reader = WireReader.LittleEndian(header);
            VhostUserHeader.TryRead(ref reader, out var reply);
            Validate(reply, request, received.Count);
            if (!_connection.TryReceiveExactly(payload, received, deadline, $"the reply to {name}"))
            {
                throw Broken(VhostError.Disconnected, $"{Describe()} closed the connection in the middle of its reply to {name}.");
            }
        }
        catch (WireException e)
        {
            throw Translate(e, request, "was not answered");
        }

        ulong value = BinaryPrimitives.ReadUInt64LittleEndian(payload);
        _transcript.Received(request, $"0x{value:x} {describe(value)}".TrimEnd(), received.Count);
        return value;
    }

    private void Validate(VhostUserHeader reply, VhostUserRequest request, int descriptors)
    {
        string name = VhostUserHeader.NameOf(request);
        var wrong =
            reply.Request != request || !reply.IsReply ? VhostError.UnexpectedReply
            : !reply.HasKnownVersion ? VhostError.WrongVersion
            : reply.Size != sizeof(ulong) ? VhostError.WrongReplySize
            : (VhostError?)null;
        if (wrong is { } reason)
        {
            string got = $"{VhostUserHeader.NameOf(reply.Request)}, flags 0x{reply.Flags:x}, {reply.Size} bytes";
            _transcript.Received(reply.Request, $"flags 0x{reply.Flags:x}, {reply.Size} bytes: not a reply to {name}", descriptors);
            throw Broken(reason, $"{Describe()} broke the protocol: the reply to {name} is {got}; "
                + $"{name}, flags 0x{VhostUserHeader.Version | VhostUserHeader.ReplyFlag:x}, expected {sizeof(ulong)} bytes.");
        }
    }

    private void RejectDescriptors(FdQueue received, VhostUserRequest request)
    {
        int count = received.CloseUnclaimed();
        if (count > 0)
        {
            throw Broken(VhostError.ReplyDescriptorMismatch,
                $"{Describe()} broke the protocol: its reply to {VhostUserHeader.NameOf(request)} carries {count} descriptors.");
        }
    }

    private VhostException Translate(WireException e, VhostUserRequest request, string what)
    {
        var reason = e.Reason switch
        {
            WireError.Timeout => VhostError.Timeout,
            WireError.DescriptorsLost => VhostError.ReplyDescriptorMismatch,
            _ => VhostError.Disconnected,
        };
        return Broken(reason, $"{Describe()}: {VhostUserHeader.NameOf(request)} {what}: {e.Message}", e);
    }
}
