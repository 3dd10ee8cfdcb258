using System.Buffers;
using System.Runtime.InteropServices;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Cpr;

/// <summary>
/// The sending end of a transfer channel: connects, writes everything, ends its writing direction and stays open until
/// the peer closes, which says that the peer has taken over. QEMU's source does the same.
/// </summary>
internal sealed class CprSender : IDisposable
{
    // How long a process needs from closing its files to being gone.
    private static readonly TimeSpan s_endOfProcess = TimeSpan.FromMilliseconds(250);

    private readonly UnixConnection _connection;

    private CprSender(UnixConnection connection)
    {
        _connection = connection;
        Peer = connection.GetPeerCredentials();
    }

    /// <summary>The process that listens.</summary>
    public PeerCredentials Peer { get; }

    /// <summary>What errors call the peer.</summary>
    public string Name => _connection.Name;

    /// <summary>How many bytes have been written.</summary>
    public long ByteCount { get; private set; }

    /// <summary>Connects to the socket on which the new process listens.</summary>
    public static CprSender Connect(string path, TransferScope scope) => new(Transport.ConnectUnix(path, scope));

    /// <summary>Uses a connection that exists; it is closed with the sender.</summary>
    public static CprSender Over(UnixConnection connection) => new(connection);

    /// <summary>Fails if an entry's descriptor is not what it was, or a key stands twice. Nothing is sent.</summary>
    /// <exception cref="CprException"><see cref="CprError.DescriptorClosed"/>, <see cref="CprError.DuplicateEntry"/>.</exception>
    public static void Check(IReadOnlyList<CprEntry> entries)
    {
        ArgumentNullException.ThrowIfNull(entries);
        var keys = new HashSet<(CprName, int)>(entries.Count);
        foreach (var entry in entries)
        {
            entry.Verify();
            if (!keys.Add((entry.Name, entry.Id)))
            {
                throw new CprException(CprError.DuplicateEntry,
                    $"Two entries have the name '{entry.Name}' and the id {entry.Id}; the receiver could find only one.")
                { Target = entry.Name.ToString() };
            }
        }
    }

    /// <summary>Writes the state and ends the writing direction.</summary>
    /// <param name="entries">Newest first. They stay the caller's; the kernel duplicates the descriptors for the peer.</param>
    /// <param name="devices">Null for QEMU 10.0.</param>
    /// <exception cref="CprException"><see cref="CprError.NotTakenOver"/> if the peer closes meanwhile.</exception>
    public void Send(IReadOnlyList<CprEntry> entries, IReadOnlyList<CprVfioDevice>? devices)
    {
        ArgumentNullException.ThrowIfNull(entries);
        var text = new ArrayBufferWriter<byte>(256);
        var descriptor = new SafeHandle[1];
        ReadOnlySpan<byte> dummy = [CprFormat.DummyByte];
        int sent = 0;
        try
        {
            CprStateEncoder.WriteHeader(text);
            foreach (var entry in entries)
            {
                CprStateEncoder.WriteEntry(text, entry.Name, entry.Id);
                Flush(text);
                // Alone in its message, so that the receiver's read cannot run past it into the next one.
                descriptor[0] = entry.Handle;
                _connection.Send(dummy, descriptor, _connection.Scope.StartDeadline(), "a descriptor");
                ByteCount++;
                sent++;
            }

            CprStateEncoder.WriteEnd(text, devices);
            Flush(text);
            _connection.ShutdownWrite();
        }
        catch (WireException e) when (e.Reason == WireError.Disconnected)
        {
            throw new CprException(CprError.NotTakenOver,
                $"{Name} closed the channel after {sent:N0} of {entries.Count:N0} entries were sent.", e)
            { Peer = Name, ByteOffset = ByteCount };
        }
    }

    /// <summary>Waits until the peer closes the channel, and makes sure that it did not close it by ending.</summary>
    /// <param name="deadline">When to give up; the channel stays open then, and waiting again is possible.</param>
    /// <exception cref="CprException"><see cref="CprError.NotTakenOver"/>.</exception>
    public void WaitForTakeover(Deadline deadline)
    {
        using var process = Peer.Pid == Environment.ProcessId ? null : ProcessCalls.TryOpenProcess(Peer.Pid);
        var events = _connection.Scope.Wait(
            _connection.Handle, PollEvents.None, deadline, $"{Name} to take the descriptors over");
        if (events.HasFlag(PollEvents.Error))
        {
            throw new CprException(CprError.NotTakenOver, $"{Name} closed the channel without reading the whole state.")
            { Peer = Name };
        }

        if (process is not null && HasEnded(process))
        {
            throw new CprException(CprError.NotTakenOver,
                $"{Name}: process {Peer.Pid} read the state and ended instead of taking over.")
            { Peer = Name };
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _connection.Dispose();

    private void Flush(ArrayBufferWriter<byte> text)
    {
        _connection.Send(text.WrittenSpan, default, _connection.Scope.StartDeadline(), "the CPR state");
        ByteCount += text.WrittenCount;
        text.ResetWrittenCount();
    }

    // A process that ends closes its sockets a moment before it is gone, so a hang-up alone does not tell.
    private bool HasEnded(SafeHandle process)
    {
        try
        {
            _connection.Scope.Wait(process, PollEvents.Readable, new Deadline(s_endOfProcess), "the end of the peer");
            return true;
        }
        catch (WireException e) when (e.Reason == WireError.Timeout)
        {
            return false;
        }
    }
}
