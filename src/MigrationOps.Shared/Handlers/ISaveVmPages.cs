namespace MigrationOps;

/// <summary>A range of one block of a device's memory, as postcopy names it.</summary>
/// <param name="Block">The name of the block, 1 to 255 bytes.</param>
/// <param name="Start">The offset of its first byte in the block.</param>
/// <param name="Length">How many bytes it has.</param>
public readonly record struct SaveVmPages(string Block, ulong Start, ulong Length);

/// <summary>
/// What a device with memory does in postcopy beside its <see cref="ISaveVmHandlers"/>: the same object implements both. QEMU
/// keeps this in its RAM code and not among the handlers. A device without pages that the target may ask for needs none of it.
/// <para>Several devices may have blocks: each is asked until one says that the block is its own.</para>
/// </summary>
public interface ISaveVmPages
{
    /// <summary>
    /// Source, once, at the switch to postcopy, after the device has stopped: ranges of which the target has an older version or
    /// nothing yet. They go out as POSTCOPY_RAM_DISCARD before the target listens. A QEMU target does not run without a single one.
    /// </summary>
    IEnumerable<SaveVmPages> StalePages(SaveVmContext context);

    /// <summary>
    /// Source, after the switch: the target waits for these pages. Called on the return path's thread, beside the handlers;
    /// it notes the wish, and the next iteration sends them first.
    /// </summary>
    /// <returns>False if the block is not this device's.</returns>
    bool RequestPages(SaveVmPages pages, SaveVmContext context);

    /// <summary>Target, before it listens: forgets these pages.</summary>
    /// <returns>False if the block is not this device's.</returns>
    bool DiscardPages(SaveVmPages pages, SaveVmContext context);

    /// <summary>
    /// Target, when a paused migration resumes: which pages of the block have come, one bit per page, the lowest bit of
    /// the first byte for the first page.
    /// </summary>
    /// <returns>Null if the block is not this device's.</returns>
    byte[]? ReceivedPages(string block, SaveVmContext context);
}
