using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>A message as a scripted back-end got it.</summary>
internal sealed record VhostMessage(VhostUserRequest Request, uint Flags, byte[] Payload, int Descriptors)
{
    internal ulong Word => BinaryPrimitives.ReadUInt64LittleEndian(Payload);
}

/// <summary>
/// A back-end whose every byte a test decides. It serves one front-end with a script, keeps what it was sent, and hands
/// the script's own failure to the test.
/// </summary>
internal sealed class ScriptedBackend : IDisposable
{
    internal const ulong DeviceState = VhostFeatures.DeviceState;
    internal const ulong AllProtocolFeatures = VhostFeatures.MultiQueue | VhostFeatures.ReplyAck | VhostFeatures.DeviceState;

    private readonly CancellationTokenSource _stop = new();
    private readonly TransferScope _scope;
    private readonly Listener _listener;
    private readonly Task _script;

    internal ScriptedBackend(string path, Action<Session> script)
    {
        Path = path;
        _scope = new TransferScope(Waiting.Patience, _stop.Token);
        _listener = Transport.Listen(new Endpoint.Unix(path), TransportSecurity.Default, _scope);
        _script = Waiting.OnThread(() =>
        {
            using var session = new Session(_listener.AcceptUnix("a front-end"), Messages);
            script(session);
        });
    }

    internal string Path { get; }

    /// <summary>What the front-end sent, in order.</summary>
    internal List<VhostMessage> Messages { get; } = [];

    /// <summary>Waits for the script's end; what it throws, fails the test.</summary>
    internal void Join() => _script.Join("the scripted back-end");

    public void Dispose()
    {
        _stop.Cancel();
        Record.Exception(() => _script.Wait(Waiting.Patience));
        _listener.Dispose();
        _scope.Dispose();
        _stop.Dispose();
    }

    /// <summary>One front-end's connection.</summary>
    internal sealed class Session(UnixConnection connection, List<VhostMessage> messages) : IDisposable
    {
        internal UnixConnection Connection => connection;

        /// <summary>Descriptors that came and were not taken.</summary>
        internal FdQueue Received { get; } = new();

        private Deadline Deadline => connection.Scope.StartDeadline();

        /// <summary>The next message; null when the front-end has left.</summary>
        internal VhostMessage? Next()
        {
            byte[] bytes = new byte[VhostUserHeader.Length];
            int before = Received.Count;
            try
            {
                if (!connection.TryReceiveExactly(bytes, Received, Deadline, "a request"))
                {
                    return null;
                }
            }
            catch (WireException e) when (e.Reason == WireError.Disconnected)
            {
                // A front-end that leaves without having read everything resets the connection.
                return null;
            }

            var reader = WireReader.LittleEndian(bytes);
            VhostUserHeader.TryRead(ref reader, out var header);
            byte[] payload = new byte[header.Size];
            Assert.True(connection.TryReceiveExactly(payload, Received, Deadline, "a payload"));
            var message = new VhostMessage(header.Request, header.Flags, payload, Received.Count - before);
            lock (messages)
            {
                messages.Add(message);
            }

            return message;
        }

        /// <summary>Answers as the protocol wants it, with what is given.</summary>
        internal void Reply(VhostUserRequest request, ulong value, params SafeHandle[] descriptors)
            => Send(VhostUserHeader.Compose(request, 5, VhostUserHeader.Payload(value)), descriptors);

        internal void Send(byte[] bytes, params SafeHandle[] descriptors) => connection.Send(bytes, descriptors, Deadline, "a reply");

        /// <summary>Serves messages in the usual way up to one of a kind, which is returned unanswered.</summary>
        internal VhostMessage? ServeUntil(VhostUserRequest request, ulong protocolFeatures = AllProtocolFeatures)
        {
            while (Next() is { } message)
            {
                if (message.Request == request)
                {
                    return message;
                }

                switch (message.Request)
                {
                    case VhostUserRequest.GetFeatures: Reply(message.Request, VhostFeatures.ProtocolFeatures); break;
                    case VhostUserRequest.GetProtocolFeatures: Reply(message.Request, protocolFeatures); break;
                    case VhostUserRequest.GetQueueNum: Reply(message.Request, 3); break;
                    case VhostUserRequest.CheckDeviceState: Reply(message.Request, 0); break;
                }
            }

            return null;
        }

        /// <summary>Takes the descriptor of a transfer and accepts it without one of its own.</summary>
        internal SafeFileHandle AcceptTransfer()
        {
            Assert.NotNull(ServeUntil(VhostUserRequest.SetDeviceStateFd));
            var handle = Received.Take()!;
            Reply(VhostUserRequest.SetDeviceStateFd, 0x100);
            return handle;
        }

        public void Dispose()
        {
            Received.Dispose();
            connection.Dispose();
        }
    }
}
