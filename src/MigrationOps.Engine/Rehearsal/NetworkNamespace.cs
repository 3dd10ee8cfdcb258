using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>Starts a program in a network namespace of its own, which has no way out: a tap in it leads nowhere.</summary>
internal static class NetworkNamespace
{
    /// <summary>The program and the arguments before its own that start it so; the program alone if no argument names a network back-end.</summary>
    internal static (string Program, string[] Arguments) Wrap(string program, IReadOnlyList<string> arguments, List<string> notes)
    {
        // Without any of these options QEMU gives a machine its default network card, with a slirp back-end.
        if (arguments.Contains("-nodefaults") && !arguments.Any(a => a is "-netdev" or "-nic" or "-net"))
        {
            return (program, []);
        }

        if (!File.Exists("/dev/net/tun"))
        {
            notes.Add("There is no /dev/net/tun here: a network back-end cannot be rehearsed.");
        }

        return ("unshare", [Environment.IsPrivilegedProcess ? "--net" : "--map-root-user", .. Environment.IsPrivilegedProcess ? Array.Empty<string>() : ["--net"], "--", program]);
    }
}
