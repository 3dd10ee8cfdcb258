namespace MigrationOps.Engine.Vfio;

/// <summary>A packet that waits for its turn: in memory, in the spill file, or still on its way.</summary>
internal readonly struct HeldPacket
{
    private HeldPacket(int length, long cost, Memory<byte> buffer, Memory<byte>[]? pieces, long spillOffset, bool isReady)
    {
        Length = length;
        Cost = cost;
        Buffer = buffer;
        Pieces = pieces;
        SpillOffset = spillOffset;
        IsReady = isReady;
    }

    /// <summary>Its index is taken, its bytes are being read.</summary>
    internal static HeldPacket OnItsWay => default;

    internal bool IsReady { get; }

    internal int Length { get; }

    /// <summary>What it is charged with in the budget.</summary>
    internal long Cost { get; }

    internal Memory<byte> Buffer { get; }

    internal Memory<byte>[]? Pieces { get; }

    internal long SpillOffset { get; }

    internal bool IsSpilled => IsReady && Length > 0 && Buffer.IsEmpty && Pieces is null;

    internal static HeldPacket InMemory(Memory<byte> buffer, int length, long cost) => new(length, cost, buffer, null, 0, true);

    internal static HeldPacket InMemory(Memory<byte>[] pieces, int length, long cost) => new(length, cost, default, pieces, 0, true);

    internal static HeldPacket InFile(long offset, int length) => new(length, 0, default, null, offset, true);
}
