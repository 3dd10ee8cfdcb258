using System.Globalization;
using System.Text.RegularExpressions;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>A recorded migration of real vfio-pci devices, with the listing that another program made of it.</summary>
internal sealed partial class Capture
{
    internal const string Classic = "01-orig-classic";
    internal const string OneDevice = "03-orig-multifd-transfer-on";
    internal const string ConfigFirst = "05-orig-multifd-transfer-on-switchover-ack";
    internal const string TwoDevices = "10-big2dev-precopy-3ch-switchover-ack";

    private readonly string _folder;

    internal Capture(string name)
    {
        _folder = Path.Combine(AppContext.BaseDirectory, "Vectors", "vfio", name);
        Main = Read(0);
        Channels = [.. Enumerable.Range(1, 9).TakeWhile(i => File.Exists(PathOf(i))).Select(Read)];
    }

    /// <summary>The bytes of the main stream.</summary>
    internal byte[] Main { get; }

    /// <summary>The bytes of each channel, in the order in which they connected.</summary>
    internal List<byte[]> Channels { get; }

    internal IEnumerable<Stream> Streams() => [.. Channels.Prepend(Main).Select(bytes => new MemoryStream(bytes, writable: false))];

    /// <summary>The device's raw data in the main stream, as the listing places it.</summary>
    internal byte[] MainData(string device) => [.. File.ReadLines(Path.Combine(_folder, "main.txt"))
        .Where(line => line.Contains($"\"{device}\"", StringComparison.Ordinal))
        .SelectMany(line => DataBlock().Matches(line))
        .SelectMany(m => Main.Skip(Number(m, 1) + 16).Take(Number(m, 2)))];

    /// <summary>The device's packets, as the listing places them: index, config flag, data.</summary>
    internal List<(int Index, bool IsConfig, byte[] Data)> Packets(string device) =>
        [.. File.ReadLines(Path.Combine(_folder, "channels.txt"))
            .Select(line => Packet().Match(line)).Where(m => m.Success && m.Groups[3].Value == device)
            .Select(m => (Number(m, 4), m.Groups[5].Value == "1",
                Channels[Number(m, 1) - 1].AsSpan(Number(m, 2) + 276 + 12, Number(m, 6)).ToArray()))
            .OrderBy(p => p.Item1)];

    private static int Number(Match match, int group) => int.Parse(match.Groups[group].ValueSpan, CultureInfo.InvariantCulture);

    private string PathOf(int connection) => Path.Combine(_folder, $"conn{connection}.c2s.bin");

    private byte[] Read(int connection) => File.ReadAllBytes(PathOf(connection));

    [GeneratedRegex(@"@(\d+) DEV_DATA_STATE len=(\d+)")]
    private static partial Regex DataBlock();

    [GeneratedRegex(@"conn(\d) off +(\d+) flags=0x40 (\S+) inst=0 nps=\d+ \| ver=0 idx=(\d+) flags=(\d) data=(\d+)")]
    private static partial Regex Packet();
}
