using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vhost;

/// <summary>
/// The reply to SET_DEVICE_STATE_FD: bits 0-7 are zero for "accepted", bit 8 says that no descriptor comes with it. A
/// reply that contradicts itself is a broken protocol, not a choice.
/// </summary>
internal static class DeviceStateReply
{
    internal const ulong ErrorMask = 0xff;
    internal const ulong NoDescriptor = 0x100;

    internal static string Describe(ulong reply)
        => ((reply & ErrorMask) == 0 ? "accepted" : "refused") + ((reply & NoDescriptor) != 0 ? ", no fd" : ", own fd");

    /// <summary>Judges a reply.</summary>
    /// <param name="reply">The 64-bit value.</param>
    /// <param name="received">What came with it; what is not handed out is closed by the caller.</param>
    /// <param name="direction">Which way the state will move.</param>
    /// <param name="frontend">For the error.</param>
    /// <returns>The back-end's own descriptor, or null for the pipe.</returns>
    internal static SafeFileHandle? Take(ulong reply, FdQueue received, VhostTransferDirection direction, VhostFrontend frontend)
    {
        int count = received.Count;
        if ((reply & ErrorMask) != 0)
        {
            throw frontend.Failure(VhostError.TransferRefused,
                $"{frontend.Describe()} refused to {direction.ToString().ToLowerInvariant()} its state: SET_DEVICE_STATE_FD gave 0x{reply:x}.");
        }

        int due = (reply & NoDescriptor) != 0 ? 0 : 1;
        if (count != due)
        {
            throw frontend.Broken(VhostError.ReplyDescriptorMismatch, $"{frontend.Describe()} broke the protocol: its reply "
                + $"0x{reply:x} to SET_DEVICE_STATE_FD announces {(due == 1 ? "a descriptor" : "no descriptor")}, and {count} came.");
        }

        if (due == 0)
        {
            return null;
        }

        var handle = received.Take()!;
        var unusable = direction == VhostTransferDirection.Save ? FileAccess.Write : FileAccess.Read;
        if (Fcntl.GetAccess(handle, "reply descriptor") == unusable)
        {
            handle.Dispose();
            throw frontend.Broken(VhostError.UnusableReplyDescriptor, $"{frontend.Describe()} broke the protocol: its descriptor "
                + $"for {direction.ToString().ToUpperInvariant()} is open for {(unusable == FileAccess.Write ? "writing" : "reading")} only.");
        }

        return handle;
    }

    /// <summary>passt answers with an errno; 1 and all ones are plain failures.</summary>
    internal static string ErrnoHint(ulong reply)
        => reply is > 1 and < 134 ? $" ({NativeError.Describe((int)reply)}?)" : "";
}
