using System.Buffers.Binary;
using System.Globalization;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// A device's PCI configuration: QEMU refuses it at the first byte that the destination's device has otherwise and the
/// guest cannot have written ("Bad config data").
/// </summary>
internal static class PciConfigRules
{
    internal const string FieldType = "pci config";

    internal static void Check(Findings findings, string device, string path, byte[] mine, byte[] theirs)
    {
        if (mine.Length != theirs.Length)
        {
            findings.Error(device, path, "the PCI configuration has another length: Express on one side only", $"{mine.Length} bytes", $"{theirs.Length} bytes");
            return;
        }

        if (theirs.Length is not (PciConfigMask.LegacyLength or 4096))
        {
            return;
        }

        var mask = PciConfigMask.Of(theirs);
        var differing = Enumerable.Range(0, theirs.Length).Where(i => ((mine[i] ^ theirs[i]) & mask[i]) != 0).ToList();
        if (differing.Count == 0)
        {
            return;
        }

        int first = differing[0];
        string name = mask.NameOf(first);
        string more = differing.Count > 1 ? $"; {differing.Count - 1} more differ, from 0x{differing[1]:x} on" : "";
        var (a, b) = Values(first, name, mine, theirs);
        findings.Error(device, path, $"config byte 0x{first:x}, {name}{more}", a, b);
    }

    private static (string Mine, string Theirs) Values(int offset, string name, byte[] mine, byte[] theirs)
    {
        // An id is known by both of its bytes, a table by its entries.
        bool isTable = name == PciConfigMask.TableSize;
        if (isTable || (name.EndsWith(" id", StringComparison.Ordinal) && name != PciConfigMask.CapabilityId))
        {
            int at = offset & ~1;
            return (Word(mine, at, isTable), Word(theirs, at, isTable));
        }

        return (Hex(mine[offset]), Hex(theirs[offset]));
    }

    private static string Word(byte[] config, int at, bool isTable)
    {
        int value = BinaryPrimitives.ReadUInt16LittleEndian(config.AsSpan(at));
        return isTable ? $"{Hex(config[at])} ({(value & 0x7ff) + 1} vectors)" : string.Create(CultureInfo.InvariantCulture, $"0x{value:x4}");
    }

    private static string Hex(int value) => string.Create(CultureInfo.InvariantCulture, $"0x{value:x2}");
}
