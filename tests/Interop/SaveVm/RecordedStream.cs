using System.Buffers;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Interop.Tests.SaveVm;

/// <summary>A stream that a real QEMU wrote, taken apart into its sections.</summary>
internal sealed class RecordedStream : StreamVisitor
{
    private readonly ArrayBufferWriter<byte> _description = new();
    private readonly byte[] _bytes;

    private RecordedStream(byte[] bytes) => _bytes = bytes;

    internal string MachineType { get; private set; } = "";

    internal List<(StreamSection Header, byte[] Body)> Sections { get; } = [];

    internal List<RamBlock> Blocks { get; } = [];

    /// <summary>The last content of every page that was sent.</summary>
    internal Dictionary<(string Block, long Offset), byte[]> Pages { get; } = [];

    internal static RecordedStream Read(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        var first = new RecordedStream(bytes);
        new StreamWalker(first).Feed(bytes, last: true);
        var description = StreamDescription.Parse(first._description.WrittenSpan, new MemoryBudget());
        var second = new RecordedStream(bytes);
        new StreamWalker(second, description).Feed(bytes, last: true);
        return second;
    }

    /// <summary>Registers every device of the stream, in its order, except those that have another owner.</summary>
    internal SaveVmRegistry Register(params (string IdStr, ISaveVmHandlers Handlers)[] others)
    {
        var registry = new SaveVmRegistry();
        foreach (var device in Sections.GroupBy(s => s.Header.Id))
        {
            var header = device.First().Header;
            var other = others.FirstOrDefault(o => o.IdStr == header.IdStr).Handlers;
            registry.Register(header.IdStr, header.InstanceId, (int)header.VersionId, other ?? new Device([.. device]));
        }

        Assert.All(others, o => Assert.Contains(registry.Entries, e => ReferenceEquals(e.Handlers, o.Handlers)));
        return registry;
    }

    public override void OnConfiguration(StreamConfiguration configuration) => MachineType = configuration.MachineType;

    public override void OnSectionEnd(StreamSection section, long bodyLength)
        => Sections.Add((section, _bytes.AsSpan((int)section.BodyOffset, (int)bodyLength).ToArray()));

    public override void OnRamBlock(RamBlock block) => Blocks.Add(block);

    public override void OnRamPage(RamBlock block, long pageOffset, RamPageKind kind, ReadOnlySpan<byte> data)
        => Pages[(block.Name, pageOffset)] = data.ToArray();

    public override void OnDescriptionData(ReadOnlySpan<byte> data) => _description.Write(data);

    /// <summary>Gives the bodies of its sections again, each in a section of the same kind.</summary>
    private sealed class Device(IReadOnlyList<(StreamSection Header, byte[] Body)> sections) : ISaveVmHandlers
    {
        private readonly Queue<byte[]> _parts = new(Bodies(sections, SectionKind.Part));

        public SaveVmHandler Offered
            => (Bodies(sections, SectionKind.Start).Any()
                ? SaveVmHandler.SaveSetup | SaveVmHandler.SaveLiveIterate | SaveVmHandler.StatePendingEstimate
                    | SaveVmHandler.IsActiveIterate | SaveVmHandler.SaveLiveCompletePrecopy
                : SaveVmHandler.None)
            | (Bodies(sections, SectionKind.Full).Any() ? SaveVmHandler.SaveState : SaveVmHandler.None);

        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => stream.Write(Bodies(sections, SectionKind.Start).Single());

        public bool IsActiveIterate(SaveVmContext context) => _parts.Count > 0;

        public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
        {
            stream.Write(_parts.Dequeue());
            return _parts.Count == 0;
        }

        public PendingBytes StatePendingEstimate(SaveVmContext context) => new(_parts.Sum(p => (long)p.Length));

        public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => stream.Write(Bodies(sections, SectionKind.End).Single());

        public void SaveState(SaveVmSaveStream stream, SaveVmContext context) => stream.Write(Bodies(sections, SectionKind.Full).Single());

        private static IEnumerable<byte[]> Bodies(IEnumerable<(StreamSection Header, byte[] Body)> sections, SectionKind kind)
            => sections.Where(s => s.Header.Kind == kind).Select(s => s.Body);
    }
}
