using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vhost;

/// <summary>One transfer of state over a negotiated connection: request, data to the end, check - always all three.</summary>
internal static class VhostTransferPipe
{
    // The largest pipe that an unprivileged process may ask for by default (fs.pipe-max-size).
    private const int PipeSize = 1 << 20;

    /// <summary>Runs a transfer.</summary>
    /// <param name="frontend">Negotiated.</param>
    /// <param name="direction">Which way.</param>
    /// <param name="scope">Deadline of every wait, and cancellation.</param>
    /// <param name="move">Moves all the data; gets our end of the channel, which is closed afterwards.</param>
    /// <returns>What <paramref name="move"/> gave, once the back-end has said that it processed everything.</returns>
    internal static T Run<T>(VhostFrontend frontend, VhostTransferDirection direction, TransferScope scope, Func<FdStream, T> move)
    {
        string name = $"the state of {frontend.Peer} at '{frontend.SocketPath}'";
        var channel = Open(frontend, direction, scope, name);
        T result;
        try
        {
            using (channel)
            {
                result = move(channel);
            }
        }
        catch (WireException e) when (channel.IsCauseOf(e))
        {
            throw Explain(frontend, direction, e);
        }

        frontend.Note("transfer ended, descriptor closed");
        frontend.CheckDeviceState();
        return result;
    }

    private static FdStream Open(VhostFrontend frontend, VhostTransferDirection direction, TransferScope scope, string name)
    {
        bool save = direction == VhostTransferDirection.Save;
        var (read, write) = Pipe.Create();
        var (ours, theirs) = save ? (read, write) : (write, read);
        Fcntl.TrySetPipeSize(ours, PipeSize);
        SafeFileHandle? own;
        try
        {
            own = frontend.SetDeviceStateFd(direction, VhostTransferPhase.Stopped, theirs);
        }
        catch
        {
            ours.Dispose();
            throw;
        }

        if (own is not null)
        {
            ours.Dispose();
            frontend.Note("the back-end's own descriptor is used");
        }

        return new FdStream(own ?? ours, save ? FileAccess.Read : FileAccess.Write, scope, name);
    }

    // Whoever breaks the channel may still say why at CHECK; its answer is part of the error, never a success.
    private static VhostException Explain(VhostFrontend frontend, VhostTransferDirection direction, WireException cause)
    {
        string verb = direction == VhostTransferDirection.Save ? "saving" : "loading";
        if (cause.Reason == WireError.Timeout)
        {
            return frontend.Failure(VhostError.TransferStalled, $"{frontend.Describe()} stalls while {verb} its state: {cause.Message}", cause);
        }

        try
        {
            frontend.CheckDeviceState();
        }
        catch (VhostException verdict)
        {
            return verdict;
        }

        return frontend.Failure(VhostError.TransferFailed,
            $"{frontend.Describe()} closed its end of the channel before the end while {verb} its state: {cause.Message}", cause);
    }
}
