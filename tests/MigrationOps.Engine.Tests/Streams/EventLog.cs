using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.Tests.Streams;

/// <summary>Everything a walker reports, one line each; pieces of one thing are joined, so that any cutting gives the same lines.</summary>
internal sealed class EventLog : StreamVisitor
{
    private readonly StringBuilder _description = new();
    private long _dataLength;
    private uint _dataHash;
    private long _trailing;

    internal List<string> Lines { get; } = [];

    internal string Description => _description.ToString();

    internal Dictionary<RamPageKind, int> Pages { get; } = [];

    internal List<RamBlock> Blocks { get; } = [];

    internal long Trailing => _trailing;

    public override void OnConfiguration(StreamConfiguration c)
        => Lines.Add($"@{c.Offset} configuration {c.MachineType} {c.PageBits} [{string.Join(',', c.Capabilities)}] {c.Uuid}");

    public override void OnSectionStart(StreamSection s)
    {
        Lines.Add($"@{s.Offset} {s.Kind} {s.Id} {s.IdStr} {s.InstanceId} v{s.VersionId} body@{s.BodyOffset}");
        (_dataLength, _dataHash) = (0, 2166136261);
    }

    public override void OnSectionData(StreamSection s, long offset, ReadOnlySpan<byte> data)
    {
        Assert.Equal(s.BodyOffset + _dataLength, offset);
        _dataLength += data.Length;
        foreach (byte b in data)
        {
            _dataHash = (_dataHash ^ b) * 16777619;
        }
    }

    public override void OnSectionEnd(StreamSection s, long bodyLength) => Lines.Add($"end {s.Id} {bodyLength} {_dataLength} {_dataHash:x8}");

    public override void OnVfioMarker(StreamSection s, VfioMarker marker, long offset, long dataLength) => Lines.Add($"@{offset} {marker} {dataLength}");

    public override void OnRamBlock(RamBlock block)
    {
        Blocks.Add(block);
        Lines.Add($"block {block.Name} 0x{block.Length:x} {block.Address} {block.BitmapOffset} {block.PagesOffset}");
    }

    public override void OnRamPage(RamBlock block, long pageOffset, RamPageKind kind, ReadOnlySpan<byte> data)
    {
        Pages[kind] = Pages.GetValueOrDefault(kind) + 1;
        Lines.Add($"page {block.Name} {pageOffset:x} {kind} {data.Length} {data[0]}");
    }

    public override void OnMultifdFlush(long offset) => Lines.Add("flush");

    public override void OnCommand(StreamCommand c) => Lines.Add($"@{c.Offset} {c.Id} {Convert.ToHexString(c.Data)}");

    public override void OnPackageEnd(long offset) => Lines.Add($"@{offset} package end");

    public override void OnEof(long offset) => Lines.Add($"@{offset} EOF");

    public override void OnDescriptionStart(long offset, int length) => Lines.Add($"@{offset} description {length}");

    public override void OnDescriptionData(ReadOnlySpan<byte> data) => _description.Append(Encoding.UTF8.GetString(data));

    public override void OnTrailingData(long offset, ReadOnlySpan<byte> data) => _trailing += data.Length;

    /// <summary>Walks the bytes in pieces of the given sizes (repeated), keeping what is not consumed, as a reader does.</summary>
    internal static EventLog Walk(ReadOnlySpan<byte> stream, StreamDescription? description = null, params int[] pieces)
    {
        var log = new EventLog();
        var walker = new StreamWalker(log, description);
        int given = 0;
        for (int i = 0; given < stream.Length || i == 0; i++)
        {
            given = pieces.Length == 0 ? stream.Length : Math.Min(stream.Length, given + Math.Max(1, pieces[i % pieces.Length]));
            walker.Feed(stream[(int)walker.Offset..given], last: given == stream.Length);
        }

        return log;
    }
}

/// <summary>Captured streams.</summary>
internal static class StreamVectors
{
    internal static byte[] Read(string name) => File.ReadAllBytes(PathOf(name));

    internal static string PathOf(string name) => Path.Combine(AppContext.BaseDirectory, "Vectors", "Streams", name);
}
