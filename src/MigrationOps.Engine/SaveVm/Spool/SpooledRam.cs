using System.Buffers;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// RAM that comes over multifd channels, written into the spool as the RAM sections of a stream without multifd: each packet is a
/// section of its own, and the main stream's RAM sections are written anew between them, because a page names its block by the one before it.
/// A page may come again in the next round; the channels' SYNC keeps the rounds apart.
/// </summary>
internal sealed class SpooledRam(Stream output, object gate, RoundBarrier rounds) : StreamVisitor, IRamPacketReceiver
{
    private const int MostBuffered = 256 << 10;

    private readonly ArrayBufferWriter<byte> _buffered = new();
    private readonly Dictionary<string, RamBlock> _blocks = new(StringComparer.Ordinal);
    private (SaveVmEntry Entry, IncomingStream Input)? _section;
    private RamBlock? _last;
    private bool _hasList;

    /// <summary>True if the source syncs at each section's end instead of saying so by a word: machine types before 8.1.</summary>
    internal bool SyncsAtSectionEnd { get; set; }

    private (SaveVmEntry Entry, IncomingStream Input) Section
        => _section ?? throw new InvalidOperationException("No RAM section of the main stream has begun.");

    /// <summary>A RAM section of the main stream begins.</summary>
    internal void Begin(SaveVmEntry entry, IncomingStream input) => _section = (entry, input);

    /// <summary>It has ended.</summary>
    internal void End(SectionKind kind)
    {
        if (SyncsAtSectionEnd)
        {
            AwaitChannels();
        }

        Write(kind == SectionKind.End);
    }

    /// <inheritdoc/>
    public override void OnRamBlock(RamBlock block) => _blocks.Add(block.Name, block);

    /// <inheritdoc/>
    public override void OnRamPage(RamBlock block, long pageOffset, RamPageKind kind, ReadOnlySpan<byte> data)
    {
        if (kind is not (RamPageKind.Normal or RamPageKind.Fill))
        {
            throw new SaveVmException(SaveVmError.NotSupported, $"A page of '{block.Name}' is stored as {kind}, which does not go together with multifd channels.");
        }

        Put(_buffered, block, ref _last, pageOffset, kind, data);
        if (_buffered.WrittenCount >= MostBuffered)
        {
            Write(isEnd: false);
        }
    }

    /// <inheritdoc/>
    public override void OnMultifdFlush(long offset) => AwaitChannels();

    /// <inheritdoc/>
    public void Sync() => rounds.AwaitRound();

    /// <inheritdoc/>
    public void Receive(in RamPacket packet, int size, ChannelReader channel)
    {
        long offset = channel.Offset;
        int normal = packet.NormalPages;
        long payload = packet.PayloadLength;
        if (packet.Pages == 0)
        {
            channel.Advance(size);
            channel.Skip(payload, "the pages of a RAM packet");
            return;
        }

        if (packet.Header.Compression != 0 && normal > 0)
        {
            throw new SaveVmException(SaveVmError.NotSupported, $"The pages at byte {offset:N0} of {channel.Name} are compressed ({packet.Header.Compression}) and cannot be kept.",
                action: "Set multifd-compression to none on the source.")
            { Section = channel.Name, ByteOffset = offset };
        }

        var block = Block(packet, channel.Name);
        long[] offsets = new long[packet.Pages];
        for (int i = 0; i < offsets.Length; i++)
        {
            ulong page = packet.PageOffset(i);
            offsets[i] = page < (ulong)block.Length ? (long)page : throw StreamException.In(StreamError.InvalidRamPacket, channel.Name, offset,
                $"a page lies at 0x{page:x} of RAM block '{block.Name}', which is 0x{block.Length:x} bytes long");
        }

        channel.Advance(size);
        Write(channel, block, offsets, normal, (int)(payload / Math.Max(1, normal)));
    }

    private void AwaitChannels()
    {
        // What came before must be in the file before the channels continue.
        Write(isEnd: false);
        Section.Input.Wait(rounds.AwaitChannels);
    }

    private void Write(ChannelReader channel, RamBlock block, long[] offsets, int normal, int pageSize)
    {
        var section = new ArrayBufferWriter<byte>(1024 + (normal * (pageSize + sizeof(ulong))) + (offsets.Length * 9));
        Section.Entry.WriteHeader(section, SectionKind.Part);
        RamBlock? last = null;
        byte[] page = ArrayPool<byte>.Shared.Rent(Math.Max(1, pageSize));
        for (int i = 0; i < normal; i++)
        {
            channel.ReadExactly(page.AsSpan(0, pageSize), "the pages of a RAM packet");
            Put(section, block, ref last, offsets[i], RamPageKind.Normal, page.AsSpan(0, pageSize));
        }

        ArrayPool<byte>.Shared.Return(page);
        for (int i = normal; i < offsets.Length; i++)
        {
            Put(section, block, ref last, offsets[i], RamPageKind.Fill, [0]);
        }

        Finish(section);
    }

    // The list before all else, then what has come of pages.
    private void Write(bool isEnd)
    {
        bool isStart = !_hasList && _blocks.Count > 0;
        if (!isStart && !isEnd && _buffered.WrittenCount == 0)
        {
            return;
        }

        var section = new ArrayBufferWriter<byte>();
        Section.Entry.WriteHeader(section, isStart ? SectionKind.Start : isEnd ? SectionKind.End : SectionKind.Part);
        if (isStart)
        {
            _hasList = true;
            PutList(section);
        }

        section.Write(_buffered.WrittenSpan);
        _buffered.Clear();
        _last = null;
        Finish(section);
    }

    private void Finish(ArrayBufferWriter<byte> section)
    {
        RamWriter.End(section);
        ElementWriter.Footer(section, Section.Entry.SectionId);
        lock (gate)
        {
            output.Write(section.WrittenSpan);
        }
    }

    private void PutList(ArrayBufferWriter<byte> section) => RamWriter.List(section, [.. _blocks.Values.OrderBy(b => b.Index)]);

    private static void Put(ArrayBufferWriter<byte> section, RamBlock block, ref RamBlock? last, long offset, RamPageKind kind, ReadOnlySpan<byte> data)
    {
        RamWriter.Page(section, block, offset, kind, isSameBlock: ReferenceEquals(last, block), data);
        last = block;
    }

    private RamBlock Block(in RamPacket packet, string channel)
    {
        string name = packet.Block;
        return _blocks.GetValueOrDefault(name) ?? throw StreamException.In(StreamError.InvalidRamPacket, channel, packet.Offset,
            $"a page is of RAM block '{name}', which the list of the main stream does not have");
    }
}
