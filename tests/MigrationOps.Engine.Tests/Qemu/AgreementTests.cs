using System.Globalization;
using FsCheck.Fluent;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Tests.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Qemu;

/// <summary>
/// Every user of QEMU's format sees the same elements at the same bytes: what the reader lists, the target driver loads, the receiver of
/// channels takes and the checker counts; and none of them depends on how the bytes come.
/// </summary>
public sealed class AgreementTests
{
    /// <summary>Every recorded main stream.</summary>
    public static TheoryData<string> MainStreams => [.. Recordings().Select(r => r.Name)];

    /// <summary>Every recording of a main stream and its channels.</summary>
    public static TheoryData<string> WithChannels => [.. Recordings().Where(r => r.Connections.Length > 1).Select(r => r.Name)];

    [Fact]
    public void There_are_recordings_of_every_kind()
        => Assert.True(MainStreams.Count >= 13 && WithChannels.Count >= 5, $"{MainStreams.Count}, {WithChannels.Count}");

    [Theory, MemberData(nameof(MainStreams))]
    public void The_reader_lists_what_the_target_driver_loads(string recording)
    {
        byte[] main = Load(recording)[0];
        string[] listed = Listed(new MemoryStream(main, writable: false));
        Assert.NotEmpty(listed);
        if (!HasFooters(main))
        {
            // The driver needs them: nothing else shows that a handler has read its body whole. A QEMU target is told by its machine type.
            Assert.Equal(StreamError.FooterMismatch, Assert.Throws<StreamException>(() => Driven(main, 1 << 30, seed: 0)).Reason);
            return;
        }

        Assert.Equal(listed, Driven(main, 1 << 30, seed: 0));
    }

    [Theory, MemberData(nameof(MainStreams))]
    public void The_checker_counts_what_the_reader_lists(string recording)
    {
        byte[] main = Load(recording)[0];
        using var folder = new TestFolder();
        File.WriteAllBytes(folder["main"], main);
        var structure = MigrationStreams.Test(new MigrationStreamInput { Path = folder["main"] }).Checks.Single(c => c.Name == "Structure");
        Assert.True(structure.Passed, structure.Detail);
        Assert.StartsWith(string.Create(CultureInfo.InvariantCulture,
            $"{Listed(new MemoryStream(main, writable: false)).Length:N0} sections {(HasFooters(main) ? "with their" : "without")} footers, {main.Length:N0} bytes"),
            structure.Detail, StringComparison.Ordinal);
    }

    [Theory, MemberData(nameof(WithChannels))]
    public void The_receiver_takes_what_the_reader_lists(string recording)
    {
        byte[][] connections = Load(recording);
        string[] walked = Walked(connections);
        Assert.NotEmpty(walked);
        Assert.Equal(walked, Received(connections, 1 << 30, seed: 0));
    }

    [Theory, MemberData(nameof(MainStreams))]
    public void No_user_depends_on_how_the_bytes_come(string recording)
    {
        byte[][] connections = Load(recording);
        string[] listed = Listed(new MemoryStream(connections[0], writable: false));
        string[] walked = Walked(connections);
        Property.Holds(Gen.Zip(Gen.Choose(0, int.MaxValue), Gen.Elements(1, 7, 60, 1000, 70_000)), cut =>
        {
            var (seed, largest) = cut;
            // A stream of a megabyte byte by byte would take its time.
            Assert.Equal(listed, Listed(new ChoppyStream(connections[0], seed, Math.Max(largest, connections[0].Length / 20_000))));
            Assert.Equal(listed, !HasFooters(connections[0]) ? listed : Driven(connections[0], Math.Max(largest, connections[0].Length / 20_000), seed));
            Assert.Equal(connections.Length == 1 ? [] : walked, connections.Length == 1 ? [] : Received(connections, Math.Max(largest, connections.Max(c => c.Length) / 20_000), seed));
        }, tries: 6);
    }

    private static bool HasFooters(byte[] main)
    {
        var footers = new FooterNote();
        new StreamWalker(footers).Feed(main, last: true);
        return footers.HasFooters;
    }

    private static string[] Listed(Stream stream)
        => [.. MigrationStreams.GetInfo(new MigrationStreamInput { Path = "recorded", Forward = stream }).Sections
            .Select(s => $"{s.Kind} of section {s.Id} ({s.IdStr}) at byte {s.Offset}")];

    // The driver logs each section that it loads; those of devices that are not registered go into the spool.
    private static string[] Driven(byte[] main, int largest, int seed)
    {
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var log = new SectionLog();
        var options = new SaveVmTargetOptions { SpoolPath = folder["kept"], ReturnPath = true };
        var result = new SaveVmTarget(new SaveVmRegistry(), options, log).Run(_ => new Conversation(new ChoppyStream(main, seed, largest)), scope);
        Assert.Equal(log.Lines.Count, result.Sections);
        return [.. log.Lines];
    }

    // What a walk over the connections finds: the devices of the main stream, and every packet of the channels.
    private static string[] Walked(byte[][] connections)
    {
        var devices = new Devices();
        var walker = new StreamWalker(new MainVisitor(devices));
        walker.Feed(connections[0], last: true);
        devices.Lines.Add($"main stream of {walker.Offset} bytes");
        for (int i = 1; i < connections.Length; i++)
        {
            var visitor = new ChannelVisitor(devices);
            new MultifdChannelWalker(visitor, 4096).Feed(connections[i], last: true);
            devices.Lines.Add($"channel {visitor.Id}: {visitor.Ram} packets, {visitor.Syncs} syncs, {visitor.Normal}+{visitor.Zero} pages, {visitor.DevicePackets} of devices");
        }

        return devices.Sorted;
    }

    private static string[] Received(byte[][] connections, int largest, int seed)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
        var devices = new Devices();
        var summary = MigrationReceiver.Receive(connections.Select((c, i) => new ChoppyStream(c, seed + i, largest)), new ReceiveOptions(), devices, scope);
        devices.Lines.Add($"main stream of {summary.MainBytes} bytes");
        devices.Lines.AddRange(summary.Channels.Select(c =>
            $"channel {c.Id}: {c.RamPackets} packets, {c.SyncPackets} syncs, {c.NormalPages}+{c.ZeroPages} pages, {c.DevicePackets} of devices"));
        return devices.Sorted;
    }

    private static byte[][] Load(string name) => Recordings().Single(r => r.Name == name).Connections;

    private static IEnumerable<(string Name, byte[][] Connections)> Recordings()
    {
        string vectors = Path.Combine(AppContext.BaseDirectory, "Vectors");
        foreach (string file in Directory.EnumerateFiles(Path.Combine(vectors, "Streams"), "*.stream").Order(StringComparer.Ordinal))
        {
            yield return (Path.GetFileName(file), [File.ReadAllBytes(file)]);
        }

        foreach (string folder in Directory.EnumerateDirectories(Path.Combine(vectors, "vfio")).Order(StringComparer.Ordinal))
        {
            yield return (Path.GetFileName(folder), [.. Directory.EnumerateFiles(folder, "conn*.c2s.bin").Order(StringComparer.Ordinal).Select(File.ReadAllBytes)]);
        }

        foreach (string name in new[] { "plain", "zlib" })
        {
            yield return (name, [.. Enumerable.Range(0, 3).Select(i => File.ReadAllBytes(Path.Combine(vectors, "multifd", $"{name}-2ch.ch{i}.bin")))]);
        }
    }

    /// <summary>Takes answers and forgets them.</summary>
    private sealed class Conversation(Stream input) : MemoryStream
    {
        public override bool CanWrite => true;

        public override int Read(Span<byte> buffer) => input.Read(buffer);

        public override int Read(byte[] buffer, int offset, int count) => input.Read(buffer, offset, count);

        public override void Write(ReadOnlySpan<byte> buffer)
        {
        }

        public override void Write(byte[] buffer, int offset, int count)
        {
        }
    }

    private sealed class FooterNote : StreamVisitor
    {
        internal bool HasFooters { get; private set; } = true;

        public override void OnNoFooters() => HasFooters = false;
    }

    private sealed class SectionLog : ILogger
    {
        internal List<string> Lines { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (eventId.Name == "Section")
            {
                Lines.Add(formatter(state, exception));
            }
        }
    }

    /// <summary>Notes what it is given, in the words of both ways.</summary>
    private sealed class Devices : IDeviceStateReceiver
    {
        private readonly Lock _lock = new();

        internal List<string> Lines { get; } = [];

        internal string[] Sorted => [.. Lines.Order(StringComparer.Ordinal)];

        public bool IsComplete => true;

        public bool HasInitialData => true;

        public int InitialDataMarks => 0;

        public IDeviceSections? OpenSections(StreamSection section)
        {
            Note($"{section.IdStr}/{section.InstanceId} starts at byte {section.Offset}");
            return SectionBodies.IsVfio(section.IdStr) ? new Sections(this, section.IdStr) : null;
        }

        public void EndPreCopy(bool allAnnounced)
        {
        }

        public void Complete()
        {
        }

        public void Receive(in DeviceStatePacket packet, ChannelReader channel)
        {
            Note($"packet of {packet.IdStr}/{packet.InstanceId}: {packet.PayloadSize} bytes at byte {packet.Offset}");
            channel.Advance(DeviceStatePacket.Size);
            channel.Skip(packet.PayloadSize, "a packet");
        }

        internal void Note(string line)
        {
            lock (_lock)
            {
                Lines.Add(line);
            }
        }

        private sealed class Sections(Devices devices, string name) : IDeviceSections
        {
            // Data comes in pieces of any size.
            private long _bytes;

            public void Data(SectionKind kind, ReadOnlySpan<byte> data) => _bytes += data.Length;

            public void InitialDataSent() => devices.Note($"{name}: initial data sent after {_bytes} bytes");

            public void Config(ReadOnlySpan<byte> body) => devices.Note($"{name}: config state of {body.Length} bytes after {_bytes} bytes");
        }
    }

    private sealed class MainVisitor(Devices devices) : DeviceSectionVisitor
    {
        private readonly Dictionary<uint, IDeviceSections> _sections = [];

        public override void OnSectionStart(StreamSection section)
        {
            if (section.Kind == SectionKind.Start && devices.OpenSections(section) is { } device)
            {
                _sections.Add(section.Id, device);
            }
        }

        protected override IDeviceSections? DeviceOf(StreamSection section) => _sections[section.Id];
    }

    private sealed class ChannelVisitor(Devices devices) : IChannelVisitor
    {
        internal int Id { get; private set; }

        internal long Ram { get; private set; }

        internal long Syncs { get; private set; }

        internal long Normal { get; private set; }

        internal long Zero { get; private set; }

        internal long DevicePackets { get; private set; }

        public void OnInit(ChannelInit init) => Id = init.Id;

        public bool OnRamPacket(in RamPacket packet)
        {
            Ram++;
            Syncs += packet.Header.IsSync ? 1 : 0;
            Normal += packet.NormalPages;
            Zero += packet.ZeroPages;
            return false;
        }

        public void OnDevicePacket(in DeviceStatePacket packet)
        {
            DevicePackets++;
            devices.Note($"packet of {packet.IdStr}/{packet.InstanceId}: {packet.PayloadSize} bytes at byte {packet.Offset}");
        }

        public void OnWarning(string warning) => devices.Note(warning);

        public void OnPayload(ReadOnlySpan<byte> data)
        {
        }
    }
}
