using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>
/// The end of a receipt whose source listens on the return path: it gives its guest up when it is told that everything has arrived,
/// and closes the main channel. One that closes before, or does not take the answer, has failed, and its guest runs on.
/// </summary>
/// <remarks>
/// Without a return path a source closes as soon as it has sent everything, and no byte says what became of it. A source that
/// takes the answer from its socket and fails after that closes like one that succeeded.
/// </remarks>
internal sealed class SourceApproval(ChannelReader main)
{
    // A source that fails shuts the connection down where the failure is noticed, and closes it when its threads have ended.
    private static readonly TimeSpan s_betweenEndAndClose = TimeSpan.FromMilliseconds(100);

    private readonly FdStream? _socket = main.Stream as FdStream ?? (main.Stream as TlsStream)?.Connection;

    /// <summary>Tells the source, and waits until it has closed.</summary>
    /// <exception cref="MultifdException"><see cref="MultifdError.SourceFailed"/>.</exception>
    internal void SendAnswer(ReturnPathMessage answer)
    {
        try
        {
            if (main.Drain(() => _socket?.IsReadableUntil(new Deadline(TimeSpan.Zero)) == true))
            {
                throw Failed("closed the main channel before it was told that everything has arrived");
            }

            main.Stream.Write(answer.ToArray());
            main.Drain();
        }
        catch (WireException e) when (e.Reason == WireError.Disconnected)
        {
            throw Failed("cut the main channel instead of taking the answer that everything has arrived", e);
        }

        if (_socket is not null && (!_socket.WasTaken() || _socket.IsResetUntil(new Deadline(s_betweenEndAndClose))))
        {
            throw Failed("did not take the answer that everything has arrived");
        }
    }

    private MultifdException Failed(string what, Exception? inner = null)
        => new(MultifdError.SourceFailed, $"The source {what}: its migration failed, and its guest may run on there.", inner)
        { Section = main.Name, ByteOffset = main.Offset };
}
