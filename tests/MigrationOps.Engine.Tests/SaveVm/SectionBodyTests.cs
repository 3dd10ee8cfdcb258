using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>Handlers that write less than they should, or when they should not.</summary>
public class SectionBodyTests
{
    private readonly MigrationPair _pair = new();

    [Fact]
    public void A_handler_that_writes_nothing_makes_an_empty_section_that_loads_as_one()
    {
        var target = new Reader(0);
        _pair.Source.Register("mute", 0, 1, new Mute());
        _pair.Target.Register("mute", 0, 1, target);
        _pair.Succeed();
        Assert.Equal((3, 3L), (target.Loaded, _pair.SourceResult!.Sections));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    public void A_handler_that_writes_nothing_for_a_target_that_expects_something_is_named_with_its_byte(int expected)
    {
        _pair.Source.Register("mute", 0, 1, new Mute());
        _pair.Target.Register("mute", 0, 1, new Reader(expected));
        _pair.Run();
        var failure = Assert.IsType<StreamException>(_pair.TargetFailure);
        Assert.Equal((StreamError.FooterMismatch, "section 1 (mute)"), (failure.Reason, failure.Section));
        Assert.NotNull(failure.ByteOffset);
        Assert.Equal(SaveVmError.TargetFailed, Assert.IsType<SaveVmException>(_pair.SourceFailure).Reason);
    }

    [Fact]
    public void A_footer_that_is_read_over_is_found_however_the_bytes_are_read()
    {
        // One serves every section of a stream: what it saw of the one before must not count.
        var lookout = new FooterLookout();
        byte[] before = [.. Enumerable.Repeat((byte)3, 20), 0x7e, 0];
        byte[] taken = [.. before, 0x7e, 0, 0, 0, 7, .. Enumerable.Repeat((byte)4, 20)];
        for (int first = 0; first <= taken.Length; first++)
        {
            foreach (int size in Enumerable.Range(1, 24))
            {
                foreach (uint id in new uint[] { 7, 8 })
                {
                    lookout.Begin(id);
                    lookout.Look(taken.AsSpan(0, first));
                    for (int at = first; at < taken.Length; at += size)
                    {
                        lookout.Look(taken.AsSpan(at, Math.Min(size, taken.Length - at)));
                    }

                    Assert.Equal(id == 7 ? before.Length : null, lookout.ReadOver);
                }
            }
        }

        // The end of one body and the start of the next one are no footer.
        lookout.Begin(7);
        lookout.Look([0x7e, 0, 0]);
        lookout.Begin(7);
        lookout.Look([0, 7, 1, 2, 3]);
        Assert.Null(lookout.ReadOver);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4097)]
    public void A_machine_type_that_no_stream_has_room_for_is_refused_before_anything_happens(int length)
    {
        var options = new SaveVmSourceOptions { MachineType = new string('x', length) };
        Assert.Equal(SaveVmError.InvalidName, Assert.Throws<SaveVmException>(() => new SaveVmSource(_pair.Source, options)).Reason);
        Assert.Equal(4096, new SaveVmSource(_pair.Source, options with { MachineType = new string('x', 4096) }).Options.MachineType!.Length);
    }

    [Fact]
    public void A_stream_that_was_kept_refuses_every_use_after_the_migration_and_changes_nothing()
    {
        var (source, target) = _pair.Device("d", ScriptedDevice.Live);
        Stream? saving = null, loading = null;
        source.On(SaveVmHandler.SaveLiveCompletePrecopy, (_, stream) => saving = stream);
        target.On(SaveVmHandler.LoadState, (_, stream) => loading = stream);
        _pair.Succeed();
        Assert.Equal(SaveVmError.StreamAfterCall, Assert.Throws<SaveVmException>(() => saving!.WriteByte(1)).Reason);
        Assert.Equal(SaveVmError.StreamAfterCall, Assert.Throws<SaveVmException>(() => loading!.ReadByte()).Reason);
        Assert.Equal(_pair.Sent.Length, _pair.SourceResult!.Bytes);
    }

    [Fact]
    public void A_body_that_is_larger_than_every_buffer_arrives_whole_in_reads_of_any_size()
    {
        byte[] state = new byte[1_000_003];
        new Random(7).NextBytes(state);
        foreach (int size in (int[])[1000, 65_536, 131_072, 400_000, 2_000_000])
        {
            var pair = new MigrationPair();
            var target = new Reader(state.Length) { Piece = size };
            pair.Source.Register("large", 0, 1, new ScriptedDevice("large", pair.Log, ScriptedDevice.Whole) { State = state });
            pair.Target.Register("large", 0, 1, target);
            target.HasLength = true;
            pair.Succeed();
            Assert.True(target.Bytes.SequenceEqual(state), $"Reads of {size:N0} bytes.");
        }
    }

    private sealed class Mute : ISaveVmHandlers
    {
        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => Assert.True(stream.CanWrite);

        public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => Assert.True(stream.CanWrite);

        public void SaveState(SaveVmSaveStream stream, SaveVmContext context) => Assert.True(stream.CanWrite);
    }

    private sealed class Reader(int expected) : ISaveVmHandlers
    {
        internal int Loaded { get; private set; }

        internal bool HasLength { get; set; }

        internal int Piece { get; init; } = 1;

        internal byte[] Bytes { get; } = new byte[expected];

        public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
        {
            if (HasLength)
            {
                Assert.Equal(expected, (int)stream.ReadUInt32());
            }

            for (int at = 0; at < expected;)
            {
                int count = Math.Min(Piece, expected - at);
                stream.ReadExactly(Bytes, at, count);
                at += count;
            }

            Loaded++;
        }
    }
}
