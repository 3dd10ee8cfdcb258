using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>The own part of a virtio console: how many ports there may be, which numbers are taken, and the ports that the stream describes.</summary>
/// <param name="Most">How many ports there may be.</param>
/// <param name="Numbers">The numbers that are taken.</param>
/// <param name="First">The first port that is described; null if none is. Behind it lies what the guest left in its queue.</param>
internal sealed record ConsolePorts(uint Most, IReadOnlyList<int> Numbers, uint? First)
{
    private const int PortsPerWord = 32;
    private const uint MaxPorts = 511;

    /// <summary>How many words the list of numbers has.</summary>
    internal uint Words => (Most + PortsPerWord - 1) / PortsPerWord;

    /// <summary>Reads the bytes behind the queues; null if they are too few or impossible.</summary>
    internal static ConsolePorts? Parse(ReadOnlySpan<byte> data)
    {
        var reader = WireReader.BigEndian(data, 0);
        if (!reader.TryReadUInt16(out _) || !reader.TryReadUInt16(out _) || !reader.TryReadUInt32(out uint most) || most > MaxPorts)
        {
            return null;
        }

        var numbers = new List<int>();
        for (int word = 0; word < (most + PortsPerWord - 1) / PortsPerWord; word++)
        {
            if (!reader.TryReadUInt32(out uint map))
            {
                return null;
            }

            numbers.AddRange(Enumerable.Range(0, PortsPerWord).Where(bit => (map >> bit & 1) != 0).Select(bit => (word * PortsPerWord) + bit));
        }

        return reader.TryReadUInt32(out uint count) ? new ConsolePorts(most, numbers, count > 0 && reader.TryReadUInt32(out uint first) ? first : null) : null;
    }
}
