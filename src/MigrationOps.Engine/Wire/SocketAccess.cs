using System.Globalization;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Wire;

/// <summary>Who may connect to a UNIX socket: whoever may write to its file.</summary>
/// <param name="Mode">The file's mode; null for what the process's umask leaves.</param>
/// <param name="Owner">The file's owner; null for this process's user.</param>
/// <param name="Group">The file's group; null for this process's group.</param>
internal sealed record SocketAccess(UnixFileMode? Mode = null, uint? Owner = null, uint? Group = null)
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode Everybody = OwnerOnly | UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.OtherRead | UnixFileMode.OtherWrite;

    /// <summary>As the umask has it.</summary>
    internal static SocketAccess Default { get; } = new();

    /// <summary>
    /// A socket whose clients are told by their user: the file lets these users in, and as few others as it can. Who else may write
    /// to it is turned away when it has connected.
    /// </summary>
    internal static SocketAccess For(IReadOnlyCollection<uint> users)
    {
        uint self = ProcessCalls.GetEffectiveUserId();
        uint[] others = [.. users.Where(u => u != self && u != 0).Distinct()];
        return others.Length == 0 ? new SocketAccess(OwnerOnly)
            : others.Length == 1 && self == 0 ? new SocketAccess(OwnerOnly, others[0])
            : new SocketAccess(Everybody);
    }

    /// <summary>The number of a group that is given by name or number.</summary>
    /// <exception cref="WireException"><see cref="WireError.NotFound"/>.</exception>
    internal static uint FindGroup(string group)
        => uint.TryParse(group, CultureInfo.InvariantCulture, out uint number) ? number
            : Ownership.FindGroup(group) ?? throw new WireException(WireError.NotFound, $"There is no group '{group}'.",
                action: "Give a group of this host, by name or number (getent group).")
            { Target = group };

    internal void Apply(string path)
    {
        if (Owner is not null || Group is not null)
        {
            Ownership.Change(path, Owner, Group);
        }

        if (Mode is { } mode)
        {
            File.SetUnixFileMode(path, mode);
        }
    }
}
