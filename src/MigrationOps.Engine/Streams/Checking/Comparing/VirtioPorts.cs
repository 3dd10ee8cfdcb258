using System.Buffers.Binary;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// The ports of a virtio console: which numbers are taken must be the same, and a port that the stream describes must be
/// there. What follows a port's number is as long as the stream says.
/// </summary>
internal static class VirtioPorts
{
    // Columns and rows, then how many ports there may be.
    private const int MapOffset = 8;
    private const int PortsPerWord = 32;
    private const uint MaxPorts = 511;

    internal static bool IsFor(string device) => device.Contains("virtio-console", StringComparison.Ordinal) || device.Contains("virtio-serial", StringComparison.Ordinal);

    internal static void Check(Findings findings, string device, string path, byte[] mine, byte[] theirs)
    {
        if (!TryRead(mine, out uint most, out uint[] map) || !TryRead(theirs, out uint mostThere, out uint[] mapThere))
        {
            findings.Warning(device, $"{path}.device", "the ports cannot be read out of the device's own part");
            return;
        }

        if (!map.SequenceEqual(mapThere))
        {
            findings.Error(device, $"{path}.device", "the ports have other numbers", Numbers(map), Numbers(mapThere));
        }
        else if (most > mostThere)
        {
            findings.Warning(device, $"{path}.device", "the destination has room for fewer ports", $"{most}", $"{mostThere}");
        }

        var ports = ActivePorts(mine, map.Length);
        if (ports is [var active, ..] && !ActivePorts(theirs, map.Length).Contains(active))
        {
            findings.Error(device, $"{path}.device", "the destination has no such port", $"port {active}");
        }
    }

    private static bool TryRead(byte[] data, out uint most, out uint[] map)
    {
        (most, map) = (0, []);
        if (data.Length < MapOffset || (most = BinaryPrimitives.ReadUInt32BigEndian(data.AsSpan(4))) > MaxPorts)
        {
            return false;
        }

        int words = (int)((most + PortsPerWord - 1) / PortsPerWord);
        if (data.Length < MapOffset + (4 * (words + 1)))
        {
            return false;
        }

        map = [.. Enumerable.Range(0, words).Select(i => BinaryPrimitives.ReadUInt32BigEndian(data.AsSpan(MapOffset + (4 * i))))];
        return true;
    }

    // The first is enough to tell: behind it lies what the guest left in its queue.
    private static uint[] ActivePorts(byte[] data, int words)
    {
        int at = MapOffset + (4 * words);
        uint count = BinaryPrimitives.ReadUInt32BigEndian(data.AsSpan(at));
        const int HeadLength = 10;
        var ports = new List<uint>();
        for (at += 4; count > 0 && at + HeadLength <= data.Length; count--, at += HeadLength)
        {
            ports.Add(BinaryPrimitives.ReadUInt32BigEndian(data.AsSpan(at)));
            if (BinaryPrimitives.ReadUInt32BigEndian(data.AsSpan(at + 6)) != 0)
            {
                break;
            }
        }

        return [.. ports];
    }

    private static string Numbers(uint[] map)
        => string.Join(", ", Enumerable.Range(0, map.Length * PortsPerWord).Where(i => (map[i / PortsPerWord] >> (i % PortsPerWord) & 1) != 0));
}
