namespace MigrationOps.Engine.Streams;

/// <summary>
/// Blocks of guest memory: each has to be there under its name and with its size. A block that firmware tables lie in may
/// have another size, because the next reset builds them anew.
/// </summary>
internal static class RamBlockRules
{
    private const string Part = "ram";
    private const string BuiltTables = "/rom@etc/";
    private const string LoadedRom = "/rom@";

    internal static void Check(Findings findings, StreamContents reference, StreamContents difference)
    {
        var there = new Dictionary<string, Qemu.RamBlock>();
        foreach (var ram in difference.Ram)
        {
            there[ram.Block.Name] = ram.Block;
        }

        foreach (var block in reference.Ram.Select(r => r.Block))
        {
            string length = $"0x{block.Length:x} bytes";
            if (!there.Remove(block.Name, out var other))
            {
                findings.Error(Part, block.Name, "the destination has no such RAM block", length);
            }
            else if (other.Length != block.Length && !CanGrow(block, other))
            {
                findings.Error(Part, block.Name, "the RAM block has another size there", length, $"0x{other.Length:x} bytes");
            }
            else if (block.Address is { } address && other.Address is { } addressThere && address != addressThere)
            {
                findings.Error(Part, block.Name, "the shared RAM block lies at another guest address there", $"0x{address:x}", $"0x{addressThere:x}");
            }
        }

        foreach (var block in there.Values)
        {
            findings.Value(Part, block.Name, "the stream has nothing for this RAM block, so that it stays as it is", "", $"0x{block.Length:x} bytes");
        }
    }

    // A ROM that QEMU read from a file has room for exactly its own size.
    private static bool CanGrow(Qemu.RamBlock block, Qemu.RamBlock other)
        => block.Name.StartsWith(BuiltTables, StringComparison.Ordinal)
            || (block.Name.StartsWith(LoadedRom, StringComparison.Ordinal) && block.Length < other.Length);
}
