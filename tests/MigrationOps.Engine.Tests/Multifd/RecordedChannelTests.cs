using FsCheck;
using FsCheck.Fluent;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Tests.Vfio;

namespace MigrationOps.Engine.Tests.Multifd;

/// <summary>Channels that a real QEMU wrote, without device state.</summary>
public class RecordedChannelTests
{
    [Theory]
    [InlineData("plain", PacketFlags.None)]
    [InlineData("zlib", PacketFlags.Zlib)]
    public void RAM_is_counted_and_passed_over(string name, PacketFlags compression)
    {
        var migration = Reception.Run(Load(name).Select(bytes => new MemoryStream(bytes, writable: false))).Migration;
        Assert.Equal(compression, migration.Compression);
        Assert.Equal([0, 1], migration.Channels.Select(c => c.Id));
        // 64 MiB of RAM and the blocks of a q35 machine, each page once or more.
        Assert.InRange(migration.Channels.Sum(c => c.NormalPages + c.ZeroPages), 16384, 20000);
        Assert.Single(migration.Channels.Select(c => c.SyncPackets).Distinct());
        Assert.Equal("pc-q35-10.0", migration.Machine);
        Assert.Empty(migration.Warnings);
    }

    [Fact]
    public void Plain_pages_take_their_size_in_the_channel()
    {
        var migration = Reception.Run(Load("plain").Select(bytes => new MemoryStream(bytes, writable: false))).Migration;
        Assert.All(migration.Channels, c => Assert.Equal(64 + c.RamPackets * 1344 + c.NormalPages * 4096, c.Bytes));
    }

    [Fact]
    public void The_main_stream_gives_the_same_events_however_its_bytes_are_split()
    {
        byte[] main = new Capture(Capture.TwoDevices).Main;
        var whole = Walk(main, _ => int.MaxValue);
        Assert.Equal("ram 18 flushes, switchover, ended at 713708", whole);
        Prop.ForAll(Gen.Choose(0, int.MaxValue).ToArbitrary(), seed =>
        {
            var random = new Random(seed);
            Assert.Equal(whole, Walk(main, _ => random.Next(1, 2000)));
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(10));
    }

    [Fact]
    public void Altered_bytes_of_the_main_stream_are_read_or_refused_and_never_anything_else()
    {
        byte[] main = new Capture(Capture.ConfigFirst).Main[..20000];
        Prop.ForAll(Gen.Zip(Gen.Choose(0, 600), Gen.Choose(1, 255)).ToArbitrary(), change =>
        {
            byte[] altered = [.. main];
            altered[change.Item1] ^= (byte)change.Item2;
            var parser = new MainStreamParser(new Notes());
            Exception? failure = Record.Exception(() =>
            {
                for (int used = 0, step; used < altered.Length && (step = parser.Parse(altered.AsSpan(used))) > 0;)
                {
                    used += step;
                }
            });
            Assert.True(failure is null or MultifdException, failure?.ToString());
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(500));
    }

    private static string Walk(byte[] bytes, Func<int, int> piece)
    {
        var notes = new Notes();
        var parser = new MainStreamParser(notes);
        int end = 0, used = 0;
        while (used < bytes.Length)
        {
            end = (int)Math.Min(bytes.Length, Math.Max((long)end + piece(end), Math.Min(bytes.Length, used + parser.Wanted)));
            used += parser.Parse(bytes.AsSpan(used, end - used));
        }

        parser.Finish([]);
        return $"ram {notes.Flushes} flushes, {(notes.Switched ? "switchover" : "no switchover")}, ended at {parser.Offset}";
    }

    private static byte[][] Load(string name) => [.. Enumerable.Range(0, 3).Select(i => File.ReadAllBytes(
        Path.Combine(AppContext.BaseDirectory, "Vectors", "multifd", $"{name}-2ch.ch{i}.bin")))];

    private sealed class Notes : IMainStreamObserver
    {
        internal int Flushes { get; private set; }

        internal bool Switched { get; private set; }

        public ISectionBody? OpenSection(SectionInfo section) => section.IdStr.EndsWith("/vfio", StringComparison.Ordinal) ? new Markers() : null;

        public void ReturnPathOpened()
        {
        }

        public void Ping(uint value)
        {
        }

        public void Flushed() => Flushes++;

        public void SwitchedOver() => Switched = true;
    }

    // Finds the end of a section by its last marker, which is enough for bodies with data blocks.
    private sealed class Markers : ISectionBody
    {
        private long _left;

        public void Begin(SectionKind kind, long offset) => _left = 0;

        public int Parse(ReadOnlySpan<byte> data, out bool ended)
        {
            ended = false;
            if (_left > 0)
            {
                int count = (int)Math.Min(_left, data.Length);
                _left -= count;
                return count;
            }

            if (data.Length < 16 && !(data.Length >= 8 && data[7] != 4))
            {
                return 0;
            }

            if (data[7] == 4)
            {
                _left = System.Buffers.Binary.BinaryPrimitives.ReadInt64BigEndian(data[8..]);
                return 16;
            }

            ended = data[7] is 1 or 5;
            return 8;
        }
    }
}
