using System.Globalization;

namespace MigrationOps.Interop.Tests.Qmp;

/// <summary>A network namespace of its own whose loopback is a slow link. Needs root.</summary>
internal sealed class ShapedNamespace : IDisposable
{
    // What a packet of 1,448 bytes of data takes on the link.
    private const double Overhead = 1514.0 / 1448;

    internal ShapedNamespace()
    {
        Run("ip", "netns", "add", Name);
        Run("ip", "-n", Name, "link", "set", "lo", "mtu", "1500", "up");
    }

    internal string Name { get; } = $"mo-{Environment.ProcessId}";

    /// <summary>Lets so many bytes of data through per second.</summary>
    internal void Shape(long bytesPerSecond) => Run("tc", "-n", Name, "qdisc", "replace", "dev", "lo", "root", "tbf",
        "rate", string.Create(CultureInfo.InvariantCulture, $"{bytesPerSecond * 8 * Overhead:0}bit"), "burst", "64k", "latency", "50ms");

    public void Dispose() => Run("ip", "netns", "del", Name);

    private static void Run(string program, params string[] arguments)
    {
        using var process = new PeerProcess(Peers.Require(program), arguments);
        Assert.True(process.WaitForExit() == 0, process.Output);
    }
}
