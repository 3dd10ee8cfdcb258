using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Cpr;

/// <summary>The receiving end's socket: listens, and accepts one client whose user is allowed.</summary>
internal sealed class CprListener : IDisposable
{
    private readonly Listener _listener;

    private CprListener(Listener listener) => _listener = listener;

    /// <summary>Listens on a UNIX socket, whose file goes away with the listener. Its mode or owner lets the allowed users in.</summary>
    /// <param name="path">The socket's path.</param>
    /// <param name="scope">Bounds of the wait, and of the connection.</param>
    /// <param name="allowedUsers">Who will be accepted; null for <see cref="DefaultUsers"/>.</param>
    public static CprListener Listen(string path, TransferScope scope, IReadOnlyCollection<uint>? allowedUsers = null)
        => new(Transport.Listen(new Endpoint.Unix(path), TransportSecurity.Default, scope, SocketAccess.For(allowedUsers ?? DefaultUsers)));

    /// <summary>This process's user and root.</summary>
    public static IReadOnlyList<uint> DefaultUsers { get; } = [ProcessCalls.GetEffectiveUserId(), 0];

    /// <summary>Accepts one client, and turns it away before anything is read if its user is not allowed.</summary>
    /// <exception cref="CprException"><see cref="CprError.PeerNotAllowed"/>.</exception>
    public CprReceiver Accept(IReadOnlyCollection<uint> allowedUsers) => Accept(allowedUsers, mayRaiseLimit: true);

    internal CprReceiver Accept(IReadOnlyCollection<uint> allowedUsers, bool mayRaiseLimit)
    {
        var connection = _listener.AcceptUnix("a CPR source");
        try
        {
            return new CprReceiver(connection, allowedUsers) { MayRaiseLimit = mayRaiseLimit };
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _listener.Dispose();
}

/// <summary>
/// The receiving end of a transfer channel. It stays open after the state has been read: closing it tells the sender
/// that the descriptors have been taken over, and QEMU's source then starts its main migration channel.
/// </summary>
internal sealed class CprReceiver : IDisposable
{
    // Descriptors of one message, and what else a process opens meanwhile.
    private const int Headroom = 512;

    private readonly UnixConnection _connection;
    private long _limit = ResourceLimit.GetOpenFiles().Soft;

    /// <summary>Takes over a connection.</summary>
    /// <param name="connection">Closed with the receiver, but not if its user is not allowed.</param>
    /// <param name="allowedUsers">User ids that may be at the other end.</param>
    /// <exception cref="CprException"><see cref="CprError.PeerNotAllowed"/>.</exception>
    public CprReceiver(UnixConnection connection, IReadOnlyCollection<uint> allowedUsers)
    {
        ArgumentNullException.ThrowIfNull(connection);
        ArgumentNullException.ThrowIfNull(allowedUsers);
        _connection = connection;
        Peer = connection.GetPeerCredentials();
        if (!allowedUsers.Contains(Peer.Uid))
        {
            throw new CprException(CprError.PeerNotAllowed,
                $"{Name}: process {Peer.Pid} of user {Peer.Uid} connected; allowed are the users "
                + $"{string.Join(", ", allowedUsers.Distinct())}. Nothing was read from it.")
            { Peer = Name, Target = Peer.Uid };
        }
    }

    /// <summary>The process that sends.</summary>
    public PeerCredentials Peer { get; }

    /// <summary>What errors call the peer.</summary>
    public string Name => _connection.Name;

    /// <summary>False leaves the process's limit of open files alone.</summary>
    internal bool MayRaiseLimit { get; init; } = true;

    /// <summary>Reads one state, up to the end of the sender's writing direction.</summary>
    /// <returns>The set, which the caller disposes or gives to a registry.</returns>
    /// <exception cref="CprException">It is malformed; everything that came with it has been closed.</exception>
    public CprSet Receive()
    {
        var walker = new CprStateWalker(CprMode.Transfer, Name);
        var entries = new List<CprEntry>();
        using var arrived = new FdQueue();
        Span<byte> buffer = stackalloc byte[4096];
        RaiseLimit((int)_connection.Handle.DangerousGetHandle());
        try
        {
            for (int count; (count = ReceiveSome(buffer, arrived, walker)) > 0;)
            {
                walker.Feed(buffer[..count], last: false);
                Claim(walker, entries, arrived);
            }

            walker.Feed([], last: true);
            if (arrived.Count > 0)
            {
                throw Failure(CprError.UnclaimedDescriptors, walker,
                    $"{entries.Count + arrived.Count:N0} descriptors came for {entries.Count:N0} entries");
            }

            return new CprSet(entries, walker.VfioDevices, walker.Offset);
        }
        catch
        {
            entries.ForEach(entry => entry.Dispose());
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _connection.Dispose();

    private int ReceiveSome(Span<byte> buffer, FdQueue arrived, CprStateWalker walker)
    {
        try
        {
            return _connection.Receive(buffer, arrived, _connection.Scope.StartDeadline(), "the CPR state");
        }
        catch (WireException e) when (e.Reason == WireError.DescriptorsLost)
        {
            var (soft, hard) = ResourceLimit.GetOpenFiles();
            throw new CprException(CprError.DescriptorsLost,
                $"{Name}: at byte {walker.Offset:N0} of the CPR state, after {walker.Entries.Count:N0} entries, the kernel "
                + $"dropped descriptors (MSG_CTRUNC): this process may have {soft:N0} open, at most {hard:N0}.", e)
            { Peer = Name, ByteOffset = walker.Offset };
        }
        catch (WireException e) when (e.Reason == WireError.Disconnected)
        {
            throw new CprException(CprError.Truncated,
                $"{Name}: at byte {walker.Offset:N0} of the CPR state, after {walker.Entries.Count:N0} entries, the "
                + "connection broke.", e)
            { Peer = Name, ByteOffset = walker.Offset };
        }
    }

    private void Claim(CprStateWalker walker, List<CprEntry> entries, FdQueue arrived)
    {
        for (int i = entries.Count; i < walker.Entries.Count; i++)
        {
            var entry = walker.Entries[i];
            var handle = arrived.Take() ?? throw Failure(CprError.MissingDescriptor, walker,
                $"entry '{entry.Name}', id {entry.Id}, came without its descriptor");
            entries.Add(new CprEntry(entry.Name, entry.Id, handle, received: true));
            RaiseLimit(entries[^1].Number);
        }

        if (entries.Count + arrived.Count > CprFormat.MaxEntries)
        {
            throw Failure(CprError.UnclaimedDescriptors, walker,
                $"more than {CprFormat.MaxEntries:N0} descriptors came for {entries.Count:N0} entries");
        }
    }

    // The kernel gives out the lowest free number, so the newest one tells how near the limit is. Where it cannot be
    // raised, the receipt that runs into it says so.
    private void RaiseLimit(int number)
    {
        if (number + Headroom > _limit)
        {
            _limit = MayRaiseLimit && ResourceLimit.TryRaiseOpenFiles((number + Headroom) * 2L)
                ? ResourceLimit.GetOpenFiles().Soft
                : long.MaxValue;
        }
    }

    private CprException Failure(CprError reason, CprStateWalker walker, string what)
        => new(reason, $"{Name}: at byte {walker.Offset:N0} of the CPR state, {what}.")
        {
            Peer = Name,
            ByteOffset = walker.Offset,
        };
}
