using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>A device with memory: pages that are stale at the switch, asked for while the target runs, and found missing after a break.</summary>
public class PostcopyPagesTests
{
    private readonly MigrationPair _pair = new MigrationPair().Postcopy();

    [Fact]
    public void A_running_target_gets_the_pages_that_it_asks_for_first()
    {
        var (source, target) = Memory(40);
        _pair.TargetOptions = _pair.TargetOptions with { StartDevice = () => target.Want(37) };
        source.BeforeFirstPage = () => Assert.True(source.Asked.Wait(TimeSpan.FromSeconds(30)));
        _pair.Succeed();
        Assert.Equal(37, target.Order[0]);
        Assert.Equal(source.Pages, target.Pages);
    }

    [Fact]
    public void Stale_pages_are_discarded_before_the_target_listens_twelve_to_a_command()
    {
        var (source, target) = Memory(40);
        source.Stale = [.. Enumerable.Range(0, 30)];
        _pair.Succeed();
        Assert.Equal(Enumerable.Range(0, 30), target.Discarded);
        Assert.Equal(3, Count(_pair.Sent, [8, 0, 6]));
        Assert.True(_pair.Sent.AsSpan().IndexOf((ReadOnlySpan<byte>)[8, 0, 6]) < _pair.Sent.AsSpan().IndexOf((ReadOnlySpan<byte>)[8, 0, 4, 0, 0]));
    }

    [Fact]
    public void After_a_break_the_source_learns_from_the_target_s_bitmap_what_is_missing()
    {
        var (source, target) = Memory(40);
        source.Piece = 5;
        // Each turn sends one piece, so that the first ones have arrived when it breaks.
        _pair.SourceOptions = _pair.SourceOptions with { MaxPostcopyBandwidth = 8000 };
        source.BeforePage = page =>
        {
            if (page == 23)
            {
                source.BeforePage = null;
                throw new IOException("broken on purpose");
            }
        };
        _pair.Run();
        Assert.Equal(("SaveVmPostcopyPaused", MigrationOwner.Target), PostcopyTests.Reason(_pair.SourceFailure));
        int had = target.Order.Count;
        Assert.InRange(had, 1, 39);
        _pair.Resume().AssertSucceeded();
        Assert.Equal(source.Pages, target.Pages);
        Assert.Equal(40, target.Order.Distinct().Count());
        Assert.Equal(40, target.Order.Count);
        Assert.Equal(8, source.Bitmap!.Length);
    }

    [Theory]
    [InlineData("0003 0005 0000000000", "RequestPagesWithId with 5 bytes")]
    [InlineData("0004 000c 0000000000000000 00001000", "RequestPages with 12 bytes")]
    [InlineData("0003 0010 0000000000000000 00001000 03 6e6f70", "asks for pages of 'nop'")]
    [InlineData("0006 0004 00000002", "ResumeAck with 4 bytes")]
    [InlineData("0005 0004 03 72616d 0000000000000003", "announces 3 bytes")]
    [InlineData("0005 0004 03 72616d 0000000010000000", "announces 268,435,456 bytes")]
    [InlineData("0005 0004 03 72616d 0000000000000008 0000000000000000 0123456789abcdee", "does not end with its mark")]
    [InlineData("0005 0003 03 7261", "ReceivedBitmap with 3 bytes")]
    public void A_return_path_message_that_cannot_be_is_named(string message, string says)
    {
        byte[] bytes = Convert.FromHexString(message.Replace(" ", "", StringComparison.Ordinal));
        var registry = Migrations.Registry(("ram", new PagedMemory(4)));
        EntryContext[] contexts = [.. registry.Entries.Select(e => new EntryContext(e, true, null, default))];
        using var answers = new PostcopyAnswers(contexts) { MayRequest = true };
        using var acks = new SwitchoverAcks(perDevice: false);
        using var listener = new ReturnPathListener(new MemoryStream(bytes), acks, answers);
        Assert.True(listener.Ended.WaitOne(TimeSpan.FromSeconds(30)));
        var failure = Assert.IsType<StreamException>(listener.Failure);
        Assert.Equal((StreamError.InvalidReturnPath, "return path"), (failure.Reason, failure.Section));
        Assert.Contains(says, failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Requests_name_their_block_only_when_it_changes_and_any_split_of_the_bytes_reads_the_same()
    {
        var output = new MemoryStream();
        var writer = new ReturnPathWriter(output);
        SaveVmPages[] asked = [new("ram", 0x1000, 0x1000), new("ram", 0x5000, 0x2000), new("vga", 0, 0x1000)];
        foreach (var pages in asked)
        {
            writer.Request(pages);
        }

        writer.Received("ram", [0xff, 1]);
        writer.Shut(0);
        byte[] bytes = output.ToArray();
        Assert.Equal("0003001000000000000010000000100003" + Convert.ToHexString("ram"u8) + "0004000C000000000000500000002000", Convert.ToHexString(bytes.AsSpan(0, 36)));
        for (int split = 1; split <= bytes.Length; split++)
        {
            var memory = new PagedMemory(4);
            var registry = Migrations.Registry(("any", memory));
            using var answers = new PostcopyAnswers([.. registry.Entries.Select(e => new EntryContext(e, true, null, default))]) { MayRequest = true };
            using var acks = new SwitchoverAcks(perDevice: false);
            using var listener = new ReturnPathListener(new Split(bytes, split), acks, answers);
            Assert.True(listener.Ended.WaitOne(TimeSpan.FromSeconds(30)));
            Assert.True(listener.HasFinished, listener.Failure?.ToString());
            Assert.Equal(asked, memory.Wishes);
            Assert.Equal([0xff, 1, 0, 0, 0, 0, 0, 0], answers.Bitmap.Bits);
        }
    }

    [Fact]
    public void A_device_may_ask_only_where_there_is_an_answer()
    {
        var entry = new SaveVmRegistry().Register("ram", -1, 1, new PagedMemory(1));
        var context = new EntryContext(entry, true, null, default);
        Assert.Throws<InvalidOperationException>(() => context.RequestPages(new("ram", 0, 1)));
        Assert.Throws<InvalidOperationException>(() => context.ReadReceivedPages("ram"));
    }

    private static int Count(byte[] all, byte[] part)
    {
        int count = 0;
        for (int at = 0; (at = Array.IndexOf(all, part[0], at)) >= 0; at++)
        {
            count += all.AsSpan(at).StartsWith(part) ? 1 : 0;
        }

        return count;
    }

    private (PagedMemory Source, PagedMemory Target) Memory(int pages)
    {
        var (source, target) = (new PagedMemory(pages), new PagedMemory(pages));
        for (int i = 0; i < pages; i++)
        {
            source.Pages[i] = i + 1000;
        }

        _pair.Source.Register("ram", -1, 4, source);
        _pair.Target.Register("ram", -1, 4, target);
        return (source, target);
    }

    /// <summary>Gives its bytes in pieces of one length.</summary>
    private sealed class Split(byte[] bytes, int piece) : MemoryStream(bytes)
    {
        public override int Read(byte[] buffer, int offset, int count) => base.Read(buffer, offset, Math.Min(count, piece));
    }
}

/// <summary>Memory in pages that hold one number each; everything may follow after the switch.</summary>
internal sealed class PagedMemory(int count) : ISaveVmHandlers, ISaveVmPages
{
    private const uint End = uint.MaxValue;
    private const int PageSize = 4096;

    private readonly Lock _gate = new();
    private readonly List<int> _dirty = [.. Enumerable.Range(0, count)];
    private readonly HashSet<int> _received = [];
    private SaveVmContext? _target;

    internal int[] Pages { get; } = new int[count];

    internal List<int> Order { get; } = [];

    internal List<int> Discarded { get; } = [];

    internal List<SaveVmPages> Wishes { get; } = [];

    internal int[] Stale { get; set; } = [];

    internal int Piece { get; set; } = 1000;

    internal byte[]? Bitmap { get; private set; }

    internal ManualResetEventSlim Asked { get; } = new();

    internal Action? BeforeFirstPage { get; set; }

    internal Action<int>? BeforePage { get; set; }

    internal void Want(int page) => _target!.RequestPages(new SaveVmPages("ram", (ulong)page * PageSize, PageSize));

    public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32(End);

    public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
    {
        BeforeFirstPage?.Invoke();
        BeforeFirstPage = null;
        Send(stream, Piece);
        return Left() == 0;
    }

    public PendingBytes StatePendingEstimate(SaveVmContext context) => new(0, (long)Left() * PageSize);

    public bool HasPostcopy(SaveVmContext context) => true;

    public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => Send(stream, count);

    public void SaveLiveCompletePostcopy(SaveVmSaveStream stream, SaveVmContext context) => Send(stream, count);

    public void ResumePrepare(SaveVmContext context)
    {
        Bitmap = context.ReadReceivedPages("ram");
        lock (_gate)
        {
            _dirty.Clear();
            _dirty.AddRange(Enumerable.Range(0, count).Where(page => (Bitmap[page / 8] & (1 << (page % 8))) == 0));
        }
    }

    public void LoadSetup(SaveVmContext context) => _target = context;

    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
    {
        for (uint page = stream.ReadUInt32(); page != End; page = stream.ReadUInt32())
        {
            Pages[page] = (int)stream.ReadUInt32();
            Order.Add((int)page);
            _received.Add((int)page);
        }
    }

    public IEnumerable<SaveVmPages> StalePages(SaveVmContext context) => Stale.Select(page => new SaveVmPages("ram", (ulong)page * PageSize, PageSize));

    public bool RequestPages(SaveVmPages pages, SaveVmContext context)
    {
        if (pages.Block is not ("ram" or "vga"))
        {
            return false;
        }

        lock (_gate)
        {
            Wishes.Add(pages);
            int page = (int)(pages.Start / PageSize);
            if (_dirty.Remove(page))
            {
                _dirty.Insert(0, page);
            }
        }

        Asked.Set();
        return true;
    }

    public bool DiscardPages(SaveVmPages pages, SaveVmContext context)
    {
        Discarded.Add((int)(pages.Start / PageSize));
        return pages.Block == "ram";
    }

    public byte[]? ReceivedPages(string block, SaveVmContext context)
    {
        byte[] bitmap = new byte[(count + 7) / 8];
        foreach (int page in _received)
        {
            bitmap[page / 8] |= (byte)(1 << (page % 8));
        }

        return block == "ram" ? bitmap : null;
    }

    private int Left()
    {
        lock (_gate)
        {
            return _dirty.Count;
        }
    }

    private void Send(SaveVmSaveStream stream, int most)
    {
        for (int sent = 0; sent < most; sent++)
        {
            int page;
            lock (_gate)
            {
                if (_dirty.Count == 0)
                {
                    break;
                }

                page = _dirty[0];
                _dirty.RemoveAt(0);
            }

            BeforePage?.Invoke(page);
            stream.WriteUInt32((uint)page);
            stream.WriteUInt32((uint)Pages[page]);
        }

        stream.WriteUInt32(End);
    }
}
