using System.Globalization;
using System.Text.RegularExpressions;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Where guest-physical addresses lie in a stream's blocks of RAM: by what is known of the machine type, or as a QEMU tells it.
/// </summary>
internal sealed partial class GuestLayout
{
    private const ulong FourGiB = 1UL << 32;

    private readonly List<MemoryRange> _ranges = [];

    private GuestLayout(string? obstacle = null) => Obstacle = obstacle;

    /// <summary>Why no address can be found; null if they can.</summary>
    internal string? Obstacle { get; }

    /// <summary>The layout of the machine type that the stream names, where it is known.</summary>
    internal static GuestLayout OfMachineType(StreamContents contents)
    {
        string machine = contents.Configuration?.MachineType ?? "";
        bool isQ35 = machine.StartsWith("pc-q35-", StringComparison.Ordinal);
        bool isPc = isQ35 || machine.StartsWith("pc-i440fx-", StringComparison.Ordinal);
        bool isMicrovm = machine == "microvm";
        bool isArm = machine.StartsWith("virt-", StringComparison.Ordinal) && contents.Ram.Exists(r => r.Block.Name == "mach-virt.ram");
        if (!isPc && !isMicrovm && !isArm)
        {
            return new GuestLayout(machine.Length == 0 ? "the stream does not name the machine type" : $"the memory layout of {machine} is not known here");
        }

        // A back-end's name is the operator's choice; firmware and devices have names of their own.
        var candidates = contents.Ram.Where(r => !r.Block.Name.Contains('/') && !IsFirmware(r.Block.Name)).ToList();
        if (candidates is not [var ram])
        {
            return new GuestLayout("more than one block may be the memory at address 0");
        }

        if (StreamNotes.IsShared(contents, ram))
        {
            return new GuestLayout("the memory is not in the stream");
        }

        // The memory below 4 GiB makes room for devices: the more, the more memory there is.
        ulong size = (ulong)ram.Block.Length;
        ulong low = isArm ? size
            : isQ35 ? (size >= 0xb000_0000 ? 0x8000_0000 : size)
            : isMicrovm ? Math.Min(size, 0xc000_0000)
            : size >= 0xe000_0000 ? 0xc000_0000 : size;
        var layout = new GuestLayout();
        layout._ranges.Add(new MemoryRange(isArm ? 0x4000_0000UL : 0, low, ram.Block, 0));
        layout._ranges.Add(new MemoryRange(FourGiB, size - low, ram.Block, low));
        return layout;
    }

    /// <summary>
    /// The layout that a QEMU tells with the human monitor's <c>info mtree -f</c>, in the flat view of the address space "memory".
    /// What is no block of the stream has no addresses here.
    /// </summary>
    internal static GuestLayout Parse(string tree, StreamContents contents)
    {
        var layout = new GuestLayout();
        bool isMemory = false;
        foreach (string line in tree.Split('\n', StringSplitOptions.TrimEntries))
        {
            if (line.StartsWith("FlatView", StringComparison.Ordinal))
            {
                isMemory = false;
            }
            else if (line.StartsWith("AS \"", StringComparison.Ordinal))
            {
                // A view has the names of all address spaces that share it.
                isMemory |= line.StartsWith("AS \"memory\"", StringComparison.Ordinal);
            }
            else if (isMemory && RangeLine().Match(line) is { Success: true } range
                && contents.Ram.Find(r => IsNamed(r.Block.Name, range.Groups[3].Value)) is { } ram)
            {
                ulong first = Hex(range.Groups[1].Value);
                layout._ranges.Add(new MemoryRange(first, Hex(range.Groups[2].Value) - first + 1, ram.Block, range.Groups[4].Success ? Hex(range.Groups[4].Value) : 0));
            }
        }

        return layout;

        static ulong Hex(string digits) => ulong.Parse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
    }

    /// <summary>The block and the offset in it of a guest-physical address; null if no memory of the stream lies there.</summary>
    internal (RamBlock Block, long Offset)? Find(ulong address)
    {
        foreach (var range in _ranges)
        {
            if (address >= range.First && address - range.First < range.Length)
            {
                return (range.Block, (long)(address - range.First + range.Offset));
            }
        }

        return null;
    }

    // A block is named as its memory region is, with the path of its object or its device before it.
    private static bool IsNamed(string block, string region)
        => block == region || block.EndsWith("/" + region, StringComparison.Ordinal) || region.EndsWith("/" + block, StringComparison.Ordinal);

    private static bool IsFirmware(string name)
        => name is "pc.bios" or "pc.rom" or "isa-bios" or "vga.vram" or "virt.flash0" or "virt.flash1" || name.StartsWith("system.flash", StringComparison.Ordinal) || name.EndsWith(".rom", StringComparison.Ordinal);

    [GeneratedRegex(@"^([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (?:nv-)?(?:ram|rom|ramd|romd)\): (\S+)(?: @([0-9a-f]{16}))?", RegexOptions.None, 1000)]
    private static partial Regex RangeLine();

    private readonly record struct MemoryRange(ulong First, ulong Length, RamBlock Block, ulong Offset);
}
