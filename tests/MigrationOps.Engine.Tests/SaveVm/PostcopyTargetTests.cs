using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>Streams written by hand: what a target does with commands in the wrong order, and with packages that do not fit.</summary>
[Collection(Alone.Name)]
public class PostcopyTargetTests
{
    private static readonly byte[] Advise = [8, 0, 3, 0, 0];
    private static readonly byte[] Listen = [8, 0, 4, 0, 0];
    private static readonly byte[] Run = [8, 0, 5, 0, 0];
    private static readonly byte[] Discard = [8, 0, 6, 0, 22, 0, 3, .. "ram"u8, 0, .. new byte[16]];
    private static readonly byte[] Resume = [8, 0, 9, 0, 0];
    private static readonly byte[] Bitmap = [8, 0, 10, 0, 4, 3, .. "ram"u8];
    private static readonly byte[] Section = [4, 0, 0, 0, 7, 5, .. "whole"u8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 0x7e, 0, 0, 0, 7];
    private static readonly byte[] End = [0];

    private readonly CallLog _log = new();
    private readonly SaveVmTargetOptions _options = new() { Postcopy = true };

    public static TheoryData<string, string> WrongOrders => new()
    {
        { "PostcopyAdvise", "ADVISE ADVISE" },
        { "PostcopyAdvise", "ADVISE LISTEN ADVISE" },
        { "PostcopyRamDiscard", "DISCARD" },
        { "PostcopyRamDiscard", "ADVISE LISTEN DISCARD" },
        { "PostcopyListen", "LISTEN" },
        { "PostcopyListen", "ADVISE LISTEN LISTEN" },
        { "PostcopyRun", "RUN" },
        { "PostcopyRun", "ADVISE RUN" },
        { "PostcopyRun", "ADVISE DISCARD RUN" },
        { "Packaged", "PACKAGE" },
        { "PostcopyResume", "RESUME" },
        { "PostcopyResume", "ADVISE LISTEN RESUME" },
        { "ReceivedBitmap", "BITMAP" },
        { "ReceivedBitmap", "ADVISE LISTEN BITMAP" },
        { "The end mark", "ADVISE LISTEN END" },
        { "The end mark", "ADVISE DISCARD END" },
    };

    public static TheoryData<string, string> WrongOrdersOnceItRuns => new()
    {
        { "PostcopyAdvise", "ADVISE" },
        { "PostcopyRamDiscard", "DISCARD" },
        { "PostcopyListen", "LISTEN" },
        { "PostcopyRun", "RUN" },
        { "Packaged", "PACKAGE" },
        { "PostcopyResume", "RESUME" },
        { "ReceivedBitmap", "BITMAP" },
    };

    [Theory, MemberData(nameof(WrongOrders))]
    public void A_command_in_the_wrong_state_fails_by_name_and_leaves_the_vm_to_the_source(string element, string commands)
    {
        var failure = Fails(Stream(commands));
        Assert.Equal(("StreamInvalidCommand", MigrationOwner.Source), (failure.ErrorId, failure.Owner));
        Assert.StartsWith(element, failure.Message, StringComparison.Ordinal);
        Assert.NotNull(failure.ByteOffset);
        Assert.Equal((0, 1), (_log.Count("start"), _log.Count("whole.LoadCleanup")));
    }

    [Theory, MemberData(nameof(WrongOrdersOnceItRuns))]
    public void A_command_in_the_wrong_state_once_the_device_runs_pauses_and_keeps_the_vm(string element, string command)
    {
        var target = Target();
        var failure = Fails(Stream("ADVISE LISTEN RUN " + command), target);
        Assert.Equal(("SaveVmPostcopyPaused", MigrationOwner.Target), (failure.ErrorId, failure.Owner));
        Assert.Equal(StreamError.InvalidCommand, Assert.IsType<StreamException>(failure.InnerException).Reason);
        Assert.StartsWith(element, failure.Message, StringComparison.Ordinal);
        Assert.Equal((1, 0), (_log.Count("start"), _log.Count("whole.LoadCleanup")));
        GiveUp(target);
    }

    [Theory]
    [InlineData("SECTION")]
    [InlineData("END")]
    public void Before_it_is_told_to_go_on_a_recovered_target_takes_commands_only(string element)
    {
        var target = Target();
        Fails(Stream("ADVISE LISTEN RUN"), target);
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var failure = Assert.Throws<SaveVmException>(() => target.Resume(_ => new MemoryStream(Bytes(element)), scope));
        Assert.Equal((SaveVmError.PostcopyPaused, MigrationOwner.Target), (failure.Reason, failure.Owner));
        Assert.Contains("before POSTCOPY_RESUME", failure.Message, StringComparison.Ordinal);
        GiveUp(target);
    }

    [Fact]
    public void A_package_with_bytes_behind_run_is_refused_before_the_device_runs()
        => AssertPackage([.. Listen, .. Run, .. Section], 10 + (uint)Section.Length, "StreamInvalidPackage", "bytes of the package follow POSTCOPY_RUN");

    [Fact]
    public void An_end_mark_inside_a_package_is_refused()
        => AssertPackage([.. End, .. Listen], 6, "StreamInvalidPackage", "follow the end mark");

    [Fact]
    public void A_package_inside_a_package_is_refused()
        => AssertPackage([8, 0, 7, 0, 4, 0, 0, 0, 5, .. Listen], 14, "StreamInvalidPackage", "inside another");

    [Fact]
    public void A_package_that_is_shorter_than_its_section_is_refused()
    {
        for (int length = 1; length < Section.Length; length++)
        {
            AssertPackage([.. Section, .. Listen, .. Run], (uint)length, "StreamInvalidPackage", "package ends inside");
        }
    }

    [Fact]
    public void A_package_that_announces_more_than_is_taken_is_refused_at_once()
        => AssertPackage([.. Listen], uint.MaxValue, "StreamInvalidPackage", "4,294,967,295 bytes is announced, and 268,435,456 are taken");

    [Fact]
    public void A_package_takes_no_memory_for_what_it_only_announces()
    {
        long before = GC.GetTotalAllocatedBytes();
        AssertPackage([.. Listen], 250 << 20, "StreamTruncated", "ends at byte");
        Assert.InRange(GC.GetTotalAllocatedBytes() - before, 0, 200 << 20);
    }

    [Fact]
    public void A_source_that_would_go_on_itself_is_not_competed_with_once_its_connection_is_lost()
    {
        // The package's section takes until the end of the connection is known; then comes the PING of QEMU 10.2.
        byte[] package = [.. Listen, .. Section, 8, 0, 2, 0, 4, 0, 0, 0, 0x42, .. Run];
        var (failure, _) = LoseConnectionWhileLoading(package);
        Assert.Equal(("StreamTruncated", MigrationOwner.Source), (failure.ErrorId, failure.Owner));
        Assert.Equal((0, 1), (_log.Count("start"), _log.Count("whole.LoadCleanup")));
    }

    [Fact]
    public void A_device_that_has_all_it_needs_runs_although_the_connection_is_lost_while_its_package_is_loaded()
    {
        byte[] package = [.. Listen, .. Section, 8, 0, 2, 0, 4, 0, 0, 0, 3, .. Run];
        var (failure, target) = LoseConnectionWhileLoading(package);
        Assert.Equal(("SaveVmPostcopyPaused", MigrationOwner.Target), (failure.ErrorId, failure.Owner));
        Assert.Equal(1, _log.Count("start"));
        GiveUp(target);
    }

    [Fact]
    public void Without_a_package_the_order_of_the_commands_alone_counts()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var result = Target().Run(_ => new MemoryStream(Stream("ADVISE LISTEN SECTION RUN END")), scope);
        Assert.True(result.Postcopy);
        Assert.Equal(["whole.LoadSetup", "whole.LoadState", "start", "whole.LoadCleanup"], _log.Calls);
    }

    [Theory]
    [InlineData(1, "has 1 bytes of data, expected 0 or 16", "StreamInvalidCommand")]
    [InlineData(0, "without memory", "SaveVmConfigurationMismatch")]
    [InlineData(16, "pages of 0x0 bytes", "SaveVmConfigurationMismatch")]
    public void An_announcement_that_does_not_fit_is_refused(int length, string message, string error)
    {
        var target = new SaveVmTarget(Registry(), _options with { RamPageSizes = 4096 });
        var failure = Fails([.. Stream(""), 8, 0, 3, 0, (byte)length, .. new byte[length]], target);
        Assert.Equal(error, failure.ErrorId);
        Assert.Contains(message, failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_machine_with_other_pages_is_refused()
    {
        var target = new SaveVmTarget(Registry(), _options with { PageBits = 12 });
        var failure = Fails([.. Stream(""), 8, 0, 3, 0, 16, .. new byte[6], 0x10, 0, .. new byte[6], 0x40, 0], target);
        Assert.Contains("pages of 16,384 bytes, expected 4,096", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_device_that_cannot_be_started_fails_by_name_and_the_owner_of_the_vm_is_unknown()
    {
        var target = new SaveVmTarget(Registry(), _options with { StartDevice = () => throw new InvalidOperationException("no power") });
        var failure = Fails(Stream("ADVISE LISTEN RUN"), target);
        Assert.Equal(("SaveVmHandlerFailed", MigrationOwner.Unknown), (failure.ErrorId, failure.Owner));
        Assert.Contains("could not be started", failure.Message, StringComparison.Ordinal);
        Assert.False(target.IsPaused);
        Assert.Equal(1, _log.Count("whole.LoadCleanup"));
    }

    [Fact]
    public void Resuming_without_a_return_path_is_refused()
    {
        var target = Target();
        Fails(Stream("ADVISE LISTEN RUN"), target);
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var failure = Assert.Throws<SaveVmException>(() => target.Resume(_ => new MemoryStream(Resume), scope));
        Assert.Contains("before the return path is open", failure.Message, StringComparison.Ordinal);
        GiveUp(target);
    }

    private static byte[] Stream(string elements) => [.. "QEVM"u8, 0, 0, 0, 3, .. Bytes(elements)];

    private static byte[] Bytes(string elements) => [.. elements.Split(' ', StringSplitOptions.RemoveEmptyEntries).SelectMany(e => e switch
    {
        "ADVISE" => Advise,
        "RETURN" => [8, 0, 1, 0, 0],
        "DISCARD" => Discard,
        "LISTEN" => Listen,
        "RUN" => Run,
        "PACKAGE" => [8, 0, 7, 0, 4, 0, 0, 0, 5, .. Listen],
        "RESUME" => Resume,
        "BITMAP" => Bitmap,
        "SECTION" => Section,
        "END" => End,
        _ => throw new ArgumentException(e),
    })];

    // A target whose source's connection has ended before the package's section has been loaded.
    private (MigrationOpsException Failure, SaveVmTarget Target) LoseConnectionWhileLoading(byte[] package)
    {
        var whole = new ScriptedDevice("whole", _log, ScriptedDevice.Whole);
        var stream = new EndedStream([.. Stream("RETURN ADVISE"), 8, 0, 7, 0, 4, 0, 0, 0, (byte)package.Length, .. package]);
        whole.On(SaveVmHandler.LoadState, (context, _) => Assert.True(stream.Ended.Wait(TimeSpan.FromSeconds(60), context.CancellationToken)));
        var target = new SaveVmTarget(Migrations.Registry(("whole", whole)), _options with { ReturnPath = true, StartDevice = () => _log.Add("start") });
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var failure = Assert.ThrowsAny<MigrationOpsException>(() => target.Run(_ => stream, scope));
        return (failure, target);
    }

    private void AssertPackage(byte[] package, uint length, string error, string message)
    {
        byte[] head = [.. Stream("ADVISE"), 8, 0, 7, 0, 4, (byte)(length >> 24), (byte)(length >> 16), (byte)(length >> 8), (byte)length];
        var failure = Fails([.. head, .. package]);
        Assert.Equal((error, MigrationOwner.Source), (failure.ErrorId, failure.Owner));
        Assert.Contains(message, failure.Message, StringComparison.Ordinal);
        Assert.Equal(0, _log.Count("start"));
    }

    private SaveVmRegistry Registry() => Migrations.Registry(
        ("whole", new ScriptedDevice("whole", _log, ScriptedDevice.Whole)), ("ram", new Memory()));

    private SaveVmTarget Target() => new(Registry(), _options with { StartDevice = () => _log.Add("start") });

    private MigrationOpsException Fails(byte[] stream, SaveVmTarget? target = null)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        return Assert.ThrowsAny<MigrationOpsException>(() => (target ?? Target()).Run(_ => new MemoryStream(stream), scope));
    }

    private void GiveUp(SaveVmTarget target)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        Assert.True(target.IsPaused);
        Assert.Empty(target.Abandon(scope));
        Assert.False(target.IsPaused);
        Assert.Equal(1, _log.Count("whole.LoadCleanup"));
    }

    /// <summary>Tells that its reader knows of its end; what is written to it is dropped.</summary>
    private sealed class EndedStream(byte[] bytes) : MemoryStream(bytes)
    {
        internal ManualResetEventSlim Ended { get; } = new();

        public override bool CanWrite => true;

        public override int Read(Span<byte> buffer)
        {
            int count = base.Read(buffer);
            if (count == 0)
            {
                Ended.Set();
            }

            return count;
        }

        public override void Write(ReadOnlySpan<byte> buffer)
        {
        }

        public override void Write(byte[] buffer, int offset, int count)
        {
        }

        protected override void Dispose(bool disposing)
        {
            Ended.Dispose();
            base.Dispose(disposing);
        }
    }

    private sealed class Memory : ISaveVmHandlers, ISaveVmPages
    {
        public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
        {
        }

        public IEnumerable<SaveVmPages> StalePages(SaveVmContext context) => [];

        public bool RequestPages(SaveVmPages pages, SaveVmContext context) => false;

        public bool DiscardPages(SaveVmPages pages, SaveVmContext context) => pages.Block == "ram";

        public byte[]? ReceivedPages(string block, SaveVmContext context) => block == "ram" ? [1] : null;
    }
}
