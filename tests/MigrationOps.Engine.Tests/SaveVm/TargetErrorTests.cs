using System.Buffers;
using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

public class TargetErrorTests
{
    private const string Head = "5145564d 00000003 ";
    private const string Start = Head + "01 00000007 01 64 00000000 00000001 00000002 aabb 7e 00000007 ";

    private readonly CallLog _log = new();

    [Theory]
    [InlineData("", "StreamTruncated", 0)]
    [InlineData("51455600", "StreamNotAStream", 0)]
    [InlineData("5145564d 00000002", "StreamUnsupportedVersion", 4)]
    [InlineData("5145564d 00000004", "StreamUnsupportedVersion", 4)]
    [InlineData(Head + "09", "StreamUnknownElement", 8)]
    [InlineData(Head + "06 00000000", "StreamUnknownElement", 8)]
    [InlineData(Head + "7e 00000000", "StreamUnknownElement", 8)]
    [InlineData(Head + "07 00000000", "StreamTruncated", 13)]
    [InlineData(Head + "07 00001001", "StreamInvalidConfiguration", 8)]
    [InlineData(Head + "07 00000001 78 05 01 79 00000001", "StreamInvalidConfiguration", 14)]
    [InlineData(Head + "07 00000001 78 07 00000001 79 00", "StreamUnknownElement", 14)]
    [InlineData(Head + "01 00000007 01 65 00000000 00000001", "SaveVmUnknownSection", 8)]
    [InlineData(Head + "04 00000007 01 64 00000001 00000001", "SaveVmUnknownSection", 8)]
    [InlineData(Head + "04 00000007 01 64 00000000 00000002", "SaveVmVersionTooNew", 8)]
    [InlineData(Head + "04 00000007 01 64 00000000 ffffffff", "SaveVmVersionTooNew", 8)]
    [InlineData(Head + "04 00000007 00 00000000 00000001", "StreamInvalidName", 8)]
    [InlineData(Head + "04 00000007 01 ff 00000000 00000001", "StreamInvalidName", 8)]
    [InlineData(Head + "04 00000007 01 0a 00000000 00000001", "StreamInvalidName", 8)]
    [InlineData(Head + "02 00000009", "StreamInvalidSectionId", 8)]
    [InlineData(Head + "03 00000009", "StreamInvalidSectionId", 8)]
    [InlineData(Start + "01 00000007 01 66 00000000 00000001", "StreamInvalidSectionId", 34)]
    [InlineData(Start + "02 00000007 00000001 aa 7e 00000008", "StreamFooterMismatch", 44)]
    [InlineData(Start + "02 00000007 00000001 aabb 7e 00000007", "StreamFooterMismatch", 44)]
    [InlineData(Start + "02 00000007 00000003 aabb 7e 00000007", "StreamFooterMismatch", 46)]
    [InlineData(Start + "02 00000007 00000100 aabb 7e 00000007 00", "StreamFooterMismatch", 51)]
    [InlineData(Start + "02 00000007 00000100 aabb 7e 00000008 00", "StreamTruncated", 51)]
    [InlineData(Start + "02 00000007 00000004 aabb", "StreamTruncated", 45)]
    [InlineData(Start, "StreamTruncated", 34)]
    [InlineData(Start + "7e 00000007", "StreamUnknownElement", 34)]
    [InlineData(Head + "04 00000001 01 67 00000000 00000001", "SaveVmInvalidHandlers", 8)]
    [InlineData(Head + "08 000c 0000", "StreamInvalidCommand", 8)]
    [InlineData(Head + "08 0000 0000", "StreamInvalidCommand", 8)]
    [InlineData(Head + "08 000b 0001 00", "StreamInvalidCommand", 8)]
    [InlineData(Head + "08 0002 0004 00000001", "StreamInvalidCommand", 8)]
    [InlineData(Head + "08 0001 0000", "SaveVmNotSupported", 8)]
    [InlineData(Head + "08 0003 0000", "SaveVmNotSupported", 8)]
    [InlineData(Head + "08 0007 0004 00000001", "SaveVmNotSupported", 8)]
    public void What_a_source_does_wrong_is_named_with_its_byte(string hex, string error, long offset)
    {
        var failure = Assert.ThrowsAny<MigrationOpsException>(() => BrokenConnectionTests.Load(Registry(), Bytes(hex)));
        Assert.True((error, offset) == (failure.ErrorId, failure.ByteOffset), failure.ToString());
        Assert.Contains(offset.ToString("N0"), failure.Message, StringComparison.Ordinal);
        Assert.Equal((1, 1), (_log.Count("d.LoadCleanup"), _log.Count("f.LoadCleanup")));
    }

    [Theory]
    [InlineData("pc", null, "expected")]
    [InlineData(null, 12, "2^14")]
    [InlineData(null, null, "x-ignore-shared")]
    public void A_configuration_that_does_not_fit_is_refused_before_any_setup(string? machine, int? pageBits, string named)
    {
        byte[] stream = Bytes(Head + "07 00000001 78" + Subsection("configuration/target-page-bits") + "0000000e"
            + Subsection("configuration/capabilities") + "00000001 0f" + Hex("x-ignore-shared") + "00");
        var options = new SaveVmTargetOptions { MachineType = machine, PageBits = pageBits };
        var failure = Assert.Throws<SaveVmException>(() => BrokenConnectionTests.Load(Registry(), stream, options));
        Assert.Equal(SaveVmError.ConfigurationMismatch, failure.Reason);
        Assert.Contains(named, failure.Message, StringComparison.Ordinal);
        Assert.Equal((0, 1), (_log.Count("d.LoadSetup"), _log.Count("d.LoadCleanup")));
        var result = BrokenConnectionTests.Load(Registry(), stream, new SaveVmTargetOptions { MachineType = "x", PageBits = 14, Capabilities = ["x-ignore-shared"] });
        Assert.Equal("x", result.MachineType);
    }

    [Fact]
    public void A_section_of_an_older_version_is_loaded_as_that_version()
    {
        var device = new ScriptedDevice("d", _log, ScriptedDevice.Live);
        var registry = new SaveVmRegistry();
        registry.Register("d", 0, 9, device);
        BrokenConnectionTests.Load(registry, Bytes(Start + "00"));
        Assert.Equal((1, "AABB"), (device.LoadedVersion, Convert.ToHexString(device.Loaded)));
    }

    [Fact]
    public void Announced_lengths_cost_no_memory()
    {
        byte[] stream = Bytes(Start + "00 06 7fffffff");
        long before = GC.GetAllocatedBytesForCurrentThread();
        var result = Assert.Throws<StreamException>(() => BrokenConnectionTests.Load(Registry(), stream));
        Assert.Contains("2,147,483,647", result.Message, StringComparison.Ordinal);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1 << 20);
    }

    [Theory]
    [InlineData("0009 0000", "StreamInvalidReturnPath")]
    [InlineData("0001 0002 0000", "StreamInvalidReturnPath")]
    [InlineData("0004 000c 000000000000000000000000", "StreamInvalidReturnPath")]
    [InlineData("0001 0004 00000000", "StreamInvalidReturnPath")]
    [InlineData("0001 0004 00000001", "SaveVmTargetFailed")]
    [InlineData("0002 0004 0000", "SaveVmConnectionLost")]
    public void What_a_target_answers_wrong_is_named_and_ends_the_source(string hex, string error)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var listener = Transport.Listen(new Endpoint.Unix("@mo-rp-" + Guid.NewGuid().ToString("N")), TransportSecurity.Default, scope);
        // Iterates until the answer is there: the target speaks while the device runs.
        var device = new ScriptedDevice("d", _log, ScriptedDevice.Live) { Estimate = () => new PendingBytes(long.MaxValue / 4) };
        var answer = Waiting.OnThread(() =>
        {
            using var target = listener.Accept("the source");
            target.Write(Bytes(hex));
            ((FdStream)target).EndWriting();
            // The source closes as soon as it has read the answer, whether or not its own bytes have been taken.
            Record.Exception(() => target.CopyTo(Stream.Null));
        });
        Stream? connection = null;
        var failure = Assert.ThrowsAny<MigrationOpsException>(() => new SaveVmSource(Migrations.Registry(("d", device)), new SaveVmSourceOptions { ReturnPath = true })
            .Run(inner => connection = Transport.Connect(listener.Endpoint, TransportSecurity.Default, inner), scope));
        connection!.Dispose();
        answer.Join("the target");
        Assert.Equal(error, failure.ErrorId);
        Assert.Equal("return path", failure.Section);
        Assert.Equal(1, _log.Count("d.SaveCleanup"));
    }

    private static byte[] Bytes(string hex) => Convert.FromHexString(hex.Replace(" ", "", StringComparison.Ordinal));

    private static string Hex(string text) => Convert.ToHexString(Encoding.UTF8.GetBytes(text));

    private static string Subsection(string name) => $"05{name.Length:x2}{Hex(name)}00000001";

    private SaveVmRegistry Registry() => Migrations.Registry(
        ("d", new ScriptedDevice("d", _log, ScriptedDevice.Live)), ("f", new ScriptedDevice("f", _log, ScriptedDevice.Whole)),
        ("g", new ScriptedDevice("g", _log, SaveVmHandler.SaveState)));
}
