using System.Globalization;

namespace MigrationOps.Engine.Cpr;

/// <summary>A RAM block of a guest, as the block list of a main migration stream has it.</summary>
/// <param name="Name">The block's id string.</param>
/// <param name="Length">Its used length in bytes.</param>
internal readonly record struct CprRamBlock(string Name, long Length);

/// <summary>
/// Checks a set before it is handed on. QEMU's target accepts anything and makes fresh memory for what is missing or
/// has another name: what is not found out here is lost in the guest.
/// </summary>
internal static class CprSetCheck
{
    private const int Shown = 5;
    private const string Action =
        "Do not hand this set over: cancel at the old process (migrate_cancel), then close the hand-over. Its guest runs on.";


    /// <summary>Looks at the set by itself.</summary>
    public static IReadOnlyList<DeviceStateCheck> CheckSet(IReadOnlyCollection<CprFd> set)
    {
        ArgumentNullException.ThrowIfNull(set);
        return [Unique(set)];
    }

    /// <summary>Compares with another set: an earlier one, a description, what another tool says must be there.</summary>
    public static IReadOnlyList<DeviceStateCheck> AgainstSet(IReadOnlyCollection<CprFd> set, IReadOnlyCollection<CprFd> reference)
    {
        ArgumentNullException.ThrowIfNull(set);
        ArgumentNullException.ThrowIfNull(reference);
        var present = Index(set);
        var pairs = reference.Select(entry => (Reference: entry, Present: present.GetValueOrDefault((entry.Name, entry.Id))))
            .ToArray();
        var both = pairs.Where(pair => pair.Present is not null).Select(pair => (pair.Reference, Present: pair.Present!)).ToArray();
        var expected = Index(reference);
        var extra = set.Where(entry => !expected.ContainsKey((entry.Name, entry.Id))).ToArray();
        return
        [
            Result("Entries", pairs.Where(pair => pair.Present is null).Select(pair => $"{Key(pair.Reference)} is missing"),
                $"all {reference.Count:N0} are there" + (extra.Length == 0 ? ""
                    : $", and {extra.Length:N0} more: {List(extra.Select(Key))}")),
            Result("Kinds", both.Where(pair => pair.Present.Kind != pair.Reference.Kind)
                .Select(pair => $"{Key(pair.Present)} is {pair.Present.Kind}, not {pair.Reference.Kind}"), "as expected"),
            Result("Sizes", both.Where(pair => pair.Present.Size != pair.Reference.Size)
                .Select(pair => $"{Key(pair.Present)} has {pair.Present.Size:N0} bytes, not {pair.Reference.Size:N0}"), "as expected"),
            Result("Access", both.Where(pair => pair.Present.Access != pair.Reference.Access)
                .Select(pair => $"{Key(pair.Present)} is open for {pair.Present.Access}, not {pair.Reference.Access}"), "as expected"),
            Result("Objects", both.Where(pair => !SameObject(pair.Present, pair.Reference))
                .Select(pair => $"{Key(pair.Present)} is another {pair.Present.Kind} than before"), "the same ones"),
        ];
    }

    /// <summary>Compares with the RAM blocks of the guest's main stream.</summary>
    /// <param name="set">The set.</param>
    /// <param name="allBlocks">The blocks of the stream; at least one.</param>
    /// <param name="openedByPath">Blocks of memory-backend-file: the new process opens them by their path itself.</param>
    public static IReadOnlyList<DeviceStateCheck> AgainstRam(
        IReadOnlyCollection<CprFd> set, IReadOnlyCollection<CprRamBlock> allBlocks, IReadOnlyCollection<string>? openedByPath = null)
    {
        ArgumentNullException.ThrowIfNull(set);
        ArgumentNullException.ThrowIfNull(allBlocks);
        CprRamBlock[] blocks = [.. allBlocks.Where(block => openedByPath?.Contains(block.Name) != true)];
        var present = Index(set);
        var pairs = blocks.Select(block => (Block: block, Entry: present.GetValueOrDefault((block.Name, 0)))).ToArray();
        var both = pairs.Where(pair => pair.Entry is not null).Select(pair => (pair.Block, Entry: pair.Entry!)).ToArray();
        var larger = both.Where(pair => pair.Entry.Size > pair.Block.Length).ToArray();
        var memory = both.Where(pair => IsMemory(pair.Entry)).ToArray();
        return
        [
            allBlocks.Count == 0 ? new DeviceStateCheck("RamBlocks", false, "The stream lists no RAM block.", Action)
                : Result("RamBlocks", pairs.Where(pair => pair.Entry is null)
                .Select(pair => $"'{pair.Block.Name}' ({pair.Block.Length:N0} bytes) has no entry: its content would be lost"),
                $"all {blocks.Length:N0} have their memory"),
            Result("RamKinds", both.Where(pair => !IsMemory(pair.Entry))
                .Select(pair => $"'{pair.Block.Name}' is {pair.Entry.Kind}, which is not memory"), "memory"),
            // A character device has no size to compare; QEMU's ROM tables are larger than what is used of them.
            Result("RamSizes", memory.Where(pair => pair.Entry.Kind != CprFdKind.CharacterDevice && pair.Entry.Size < pair.Block.Length)
                .Select(pair => $"'{pair.Block.Name}' has {pair.Entry.Size:N0} bytes of {pair.Block.Length:N0}"),
                larger.Length == 0 ? "exact" : $"large enough; larger than what is used: {List(larger.Select(pair => pair.Block.Name))}"),
            Result("RamAccess", memory.Where(pair => pair.Entry.Access != FileAccess.ReadWrite)
                .Select(pair => $"'{pair.Block.Name}' is open for {pair.Entry.Access} only"), "read and write"),
        ];
    }

    private static bool IsMemory(CprFd entry) => entry.Kind is CprFdKind.MemFd or CprFdKind.File or CprFdKind.CharacterDevice;

    // Objects of the kernel without a file share one inode, so only real ones can be told apart. A reference that was
    // written by hand has no inode.
    private static bool SameObject(CprFd present, CprFd reference)
        => present.Kind != reference.Kind || reference.Inode == 0 || present.Kind is CprFdKind.EventFd or CprFdKind.AnonymousInode or CprFdKind.Other
            || (present.Inode == reference.Inode && present.Device == reference.Device);

    private static Dictionary<(string Name, int Id), CprFd> Index(IEnumerable<CprFd> set)
    {
        var index = new Dictionary<(string, int), CprFd>();
        foreach (var entry in set)
        {
            index.TryAdd((entry.Name, entry.Id), entry);
        }

        return index;
    }

    private static DeviceStateCheck Unique(IReadOnlyCollection<CprFd> set)
        => Result("UniqueKeys", set.GroupBy(entry => (entry.Name, entry.Id)).Where(group => group.Count() > 1)
            .Select(group => $"{Key(group.First())} stands {group.Count()} times"), $"{set.Count:N0} entries");

    private static DeviceStateCheck Result(string check, IEnumerable<string> faults, string otherwise)
    {
        string[] found = [.. faults];
        return found.Length == 0
            ? new DeviceStateCheck(check, true, otherwise)
            : new DeviceStateCheck(check, false, List(found), Action);
    }

    private static string List(IEnumerable<string> items)
    {
        string[] all = [.. items];
        return string.Join("; ", all.Take(Shown))
            + (all.Length > Shown ? string.Create(CultureInfo.CurrentCulture, $"; and {all.Length - Shown:N0} more") : "");
    }

    private static string Key(CprFd entry) => entry.Id == 0 ? $"'{entry.Name}'" : $"'{entry.Name}', id {entry.Id}";
}
