using System.Runtime.InteropServices;

namespace MigrationOps.Benchmarks;

/// <summary>
/// Memory that a hypervisor has taken back costs more at its first touch than any copy does, and falls on whichever run
/// happens to come after a pause. Each measured run therefore begins with pages that were touched a moment ago.
/// </summary>
internal static unsafe class HostMemory
{
    private const int PageSize = 4096;
    private const long Most = 6L << 30;

    /// <summary>Touches that many bytes of memory and gives them back to the kernel's free list.</summary>
    internal static void Touch(long bytes)
    {
        nuint size = (nuint)Math.Min(bytes + (bytes / 8), Most);
        byte* block = (byte*)NativeMemory.Alloc(size);
        for (nuint offset = 0; offset < size; offset += PageSize)
        {
            block[offset] = 1;
        }

        NativeMemory.Free(block);
    }
}
