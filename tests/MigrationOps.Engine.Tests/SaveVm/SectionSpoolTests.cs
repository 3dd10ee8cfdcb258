using System.Buffers.Binary;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

public sealed class SectionSpoolTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly MigrationPair _pair = new();

    private string Spool => Path.Combine(_folder.Path, "kept.stream");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Sections_of_devices_that_are_not_registered_are_kept_as_a_stream_that_loads_later()
    {
        var (live, whole) = Strangers();
        var (known, loaded) = _pair.Device("known", ScriptedDevice.Live);
        _pair.Succeed();
        Assert.Equal(known.State, loaded.Loaded);
        Assert.Equal(["live", "whole/3"], _pair.TargetResult!.Spooled);
        Assert.Equal(["known", "live", "whole/3"], _pair.TargetResult.Devices.Order(StringComparer.Ordinal));
        Assert.Empty(_pair.SourceResult!.Spooled);

        var later = new SaveVmRegistry();
        var (liveLater, wholeLater) = (new ScriptedDevice("live", new CallLog(), ScriptedDevice.Live), new ScriptedDevice("whole", new CallLog(), ScriptedDevice.Whole));
        later.Register("live", 0, 1, liveLater);
        later.Register("whole", 3, 7, wholeLater);
        var result = BrokenConnectionTests.Load(later, File.ReadAllBytes(Spool));
        Assert.Equal(live.State, liveLater.Loaded);
        Assert.Equal(whole.State, wholeLater.Loaded);
        Assert.Equal((7, "none"), (wholeLater.LoadedVersion, result.MachineType));
        Assert.Equal(_pair.TargetResult.Sections - result.Sections, _pair.Log.Count("known.LoadState"));
        var log = EventLog.Walk(File.ReadAllBytes(Spool));
        Assert.DoesNotContain("known", log.Description, StringComparison.Ordinal);
        Assert.Equal(0, log.Trailing);
    }

    [Fact]
    public void A_spool_that_nothing_is_left_for_is_a_stream_without_sections()
    {
        _pair.Device("known", ScriptedDevice.Whole);
        _pair.TargetOptions = _pair.TargetOptions with { SpoolPath = Spool };
        _pair.Succeed();
        Assert.Empty(_pair.TargetResult!.Spooled);
        Assert.Equal(0, BrokenConnectionTests.Load(new SaveVmRegistry(), File.ReadAllBytes(Spool)).Sections);
    }

    [Fact]
    public void A_state_that_holds_what_looks_like_its_own_end_is_kept_whole()
    {
        // A footer of its section, an end mark, and the head of a description too long to be one; then a footer and a plain byte.
        byte[] state = [0x7e, 0, 0, 0, 1, 0x00, 0x06, 0x7f, 0xff, 0xff, 0xff, 0x7e, 0, 0, 0, 1, 0x09, 0x7e, 0, 0, 0, 2];
        _pair.Source.Register("odd", 0, 1, new ScriptedDevice("odd", _pair.Log, ScriptedDevice.Whole) { State = state });
        _pair.TargetOptions = _pair.TargetOptions with { SpoolPath = Spool };
        _pair.Succeed();
        var later = new ScriptedDevice("odd", new CallLog(), ScriptedDevice.Whole);
        BrokenConnectionTests.Load(Migrations.Registry(("odd", later)), File.ReadAllBytes(Spool));
        Assert.Equal(state, later.Loaded);
    }

    [Fact]
    public void Lengths_that_the_description_contradicts_fail_and_leave_the_previous_file_as_it_was()
    {
        Strangers();
        byte[] stream = Recorded();
        for (int size; (size = stream.AsSpan().LastIndexOf("\"size\":14"u8)) >= 0;)
        {
            stream[size + "\"size\":1".Length] = (byte)'5';
        }

        AssertKeepsNothing(stream, StreamError.DescriptionMismatch, "14 bytes before its footer, and 15 by");
    }

    [Fact]
    public void A_stream_without_its_description_cannot_be_kept()
    {
        Strangers();
        byte[] stream = Recorded();
        int end = Array.LastIndexOf(stream, (byte)StreamFormat.Description);
        AssertKeepsNothing(stream[..end], StreamError.Truncated, "No description follows");
        BinaryPrimitives.WriteInt32BigEndian(stream.AsSpan(end + 1), stream.Length);
        AssertKeepsNothing(stream, StreamError.Truncated, "description is cut");
    }

    [Fact]
    public void A_stream_cut_anywhere_leaves_no_file()
    {
        Strangers();
        byte[] stream = Recorded();
        for (int length = 0; length < stream.Length; length++)
        {
            var failure = Assert.Throws<StreamException>(() => Receive(stream[..length]));
            Assert.True(failure.Reason == StreamError.Truncated, $"{length}: {failure}");
            Assert.Empty(Directory.GetFiles(_folder.Path));
        }

        Receive(stream);
        Assert.Equal([Spool], Directory.GetFiles(_folder.Path));
    }

    [Fact]
    public void A_ram_section_that_cannot_be_is_named_with_its_byte()
    {
        _pair.Source.Register("ram", 0, 4, new ScriptedDevice("ram", _pair.Log, ScriptedDevice.Live));
        _pair.TargetOptions = _pair.TargetOptions with { SpoolPath = Spool };
        _pair.Run();
        var failure = Assert.IsType<MigrationOps.Engine.Qemu.StreamException>(_pair.TargetFailure);
        Assert.Contains("ram", failure.Section, StringComparison.Ordinal);
        Assert.NotNull(failure.ByteOffset);
        Assert.Empty(Directory.GetFiles(_folder.Path));
    }

    private (ScriptedDevice Live, ScriptedDevice Whole) Strangers()
    {
        var live = new ScriptedDevice("live", _pair.Log, ScriptedDevice.Live);
        var whole = new ScriptedDevice("whole", _pair.Log, ScriptedDevice.Whole);
        _pair.Source.Register("live", 0, 1, live);
        _pair.Source.Register("whole", 3, 7, whole);
        _pair.TargetOptions = _pair.TargetOptions with { SpoolPath = Spool };
        return (live, whole);
    }

    private byte[] Recorded()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var output = new MemoryStream();
        new SaveVmSource(_pair.Source, new SaveVmSourceOptions()).Run(_ => output, scope);
        return output.ToArray();
    }

    private void AssertKeepsNothing(byte[] stream, StreamError reason, string words)
    {
        File.WriteAllText(Spool, "previous");
        var failure = Assert.Throws<StreamException>(() => Receive(stream));
        Assert.Equal(reason, failure.Reason);
        Assert.NotNull(failure.ByteOffset);
        Assert.Contains(words, failure.Message, StringComparison.Ordinal);
        Assert.Equal("previous", File.ReadAllText(Spool));
        Assert.Equal([Spool], Directory.GetFiles(_folder.Path));
    }

    private void Receive(byte[] stream) => BrokenConnectionTests.Load(new SaveVmRegistry(), stream, new SaveVmTargetOptions { SpoolPath = Spool });
}
