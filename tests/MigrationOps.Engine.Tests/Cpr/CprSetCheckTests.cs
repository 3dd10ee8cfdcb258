using MigrationOps.Engine.Cpr;

namespace MigrationOps.Engine.Tests.Cpr;

public class CprSetCheckTests
{
    private static readonly CprFd s_ram = new()
    {
        Name = "m0",
        Kind = CprFdKind.MemFd,
        Size = 64 << 20,
        Access = FileAccess.ReadWrite,
        Device = 1,
        Inode = 77,
    };

    private static readonly CprFd s_bios = s_ram with { Name = "pc.bios", Size = 256 << 10, Inode = 78 };

    public static TheoryData<string, CprFd[], string?, string> Sets => new()
    {
        { "the same", [s_ram, s_bios], null, "" },
        { "one more", [s_ram, s_bios, s_ram with { Name = "new" }], null, "'new'" },
        { "one missing", [s_bios], "Entries", "'m0' is missing" },
        { "another id", [s_bios, s_ram with { Id = 3 }], "Entries", "'m0' is missing" },
        { "another size", [s_bios, s_ram with { Size = 32 << 20 }], "Sizes", "33,554,432 bytes, not 67,108,864" },
        { "a pipe", [s_bios, s_ram with { Kind = CprFdKind.Pipe }], "Kinds", "'m0' is Pipe, not MemFd" },
        { "read only", [s_bios, s_ram with { Access = FileAccess.Read }], "Access", "open for Read, not ReadWrite" },
        { "other memory", [s_bios, s_ram with { Inode = 79 }], "Objects", "'m0' is another MemFd" },
        { "twice", [s_bios, s_ram, s_ram], "UniqueKeys", "'m0' stands 2 times" },
    };

    [Theory]
    [MemberData(nameof(Sets))]
    public void A_set_is_checked_against_another_set(string what, CprFd[] set, string? failed, string detail)
        => Check(what, [.. CprSetCheck.CheckSet(set), .. CprSetCheck.AgainstSet(set, [s_ram, s_bios])], failed, detail);

    public static TheoryData<string, CprFd[], string?, string> RamSets => new()
    {
        { "complete", [s_ram, s_bios], null, "" },
        { "larger", [s_ram with { Size = 128 << 20 }, s_bios], null, "larger than what is used: m0" },
        { "one missing", [s_bios], "RamBlocks", "'m0' (67,108,864 bytes) has no entry" },
        { "under another id", [s_bios, s_ram with { Id = 1 }], "RamBlocks", "'m0'" },
        { "too small", [s_bios, s_ram with { Size = 4096 }], "RamSizes", "'m0' has 4,096 bytes of 67,108,864" },
        { "a pipe", [s_bios, s_ram with { Kind = CprFdKind.Pipe, Size = 0 }], "RamKinds", "'m0' is Pipe" },
        { "read only", [s_bios, s_ram with { Access = FileAccess.Read }], "RamAccess", "'m0' is open for Read only" },
        { "a DAX device without a size", [s_bios, s_ram with { Kind = CprFdKind.CharacterDevice, Size = 0 }], null, "" },
    };

    [Theory]
    [MemberData(nameof(RamSets))]
    public void A_set_is_checked_against_the_ram_blocks_of_a_guest(string what, CprFd[] set, string? failed, string detail)
        => Check(what, CprSetCheck.AgainstRam(set, [new("m0", 64 << 20), new("pc.bios", 256 << 10)]), failed, detail);

    [Fact]
    public void A_block_that_the_new_process_opens_by_its_path_needs_no_entry()
        => Check("by path", CprSetCheck.AgainstRam([s_bios], [new("m0", 64 << 20), new("pc.bios", 256 << 10)], ["m0"]), null, "");

    [Fact]
    public void A_stream_without_ram_blocks_proves_nothing()
        => Check("no blocks", CprSetCheck.AgainstRam([s_bios], []), "RamBlocks", "no RAM block");

    private static void Check(string what, IReadOnlyList<DeviceStateCheck> results, string? failed, string detail)
    {
        string all = string.Join('\n', results);
        Assert.True(failed == string.Join(',', results.Where(result => !result.Passed).Select(result => result.Name)).NullIfEmpty(),
            $"{what}:\n{all}");
        Assert.Contains(detail, failed is null ? all : results.Single(result => !result.Passed).Detail);
    }
}

internal static class Text
{
    internal static string? NullIfEmpty(this string text) => text.Length == 0 ? null : text;
}
