using System.Text.Json;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.Tests.Streams;

/// <summary>No damage to a stream's structure goes unnoticed: it is an error with its place, or shows in what is reported.</summary>
public class DamagedStreamTests
{
    [Theory]
    [InlineData("none-tcg.plain.stream", 1)]
    [InlineData("small.stream", 997)]
    [InlineData("microvm-tcg.plain.stream", 4099)]
    [InlineData("vfio-classic.main.stream", 4099)]
    public void No_cut_stream_is_ever_whole(string name, int step)
    {
        byte[] stream = StreamVectors.Read(name);
        for (int length = 0; length < stream.Length; length += step)
        {
            var (info, report) = Test(stream[..length]);
            Assert.False(report.Passed, $"cut at {length}");
            Assert.True(info.FailureOffset == length || report.Checks.Any(c => c is { Name: "Description", Passed: false }), $"cut at {length}: {report}");
        }
    }

    [Fact]
    public void Every_flipped_bit_of_the_structure_is_found_or_shows_in_a_value()
    {
        // QEMU 10.0.2, -M none -m 1M: all of its pages are zero, so that every byte of it is structure.
        byte[] stream = StreamVectors.Read("none-1m.plain.stream");
        string whole = Signature(stream);
        var unnoticed = new List<string>();
        for (int bit = 0; bit < stream.Length * 8; bit++)
        {
            stream[bit / 8] ^= (byte)(1 << (bit % 8));
            if (Signature(stream) == whole)
            {
                unnoticed.Add($"{bit / 8}.{bit % 8}");
            }

            stream[bit / 8] ^= (byte)(1 << (bit % 8));
        }

        Assert.Empty(unnoticed);
    }

    [Fact]
    public void Every_flipped_byte_around_a_vfio_device_s_sections_is_found_or_shows()
    {
        // Its data (488856 to 488880, 501256 to 501292) is the device's; a flip there is another state of it.
        byte[] stream = StreamVectors.Read("vfio-classic.main.stream");
        string whole = Signature(stream);
        Assert.NotEqual("failed", whole);
        foreach (int offset in Enumerable.Range(8, 260).Concat(Enumerable.Range(488_822, 34)).Concat(Enumerable.Range(488_880, 20))
            .Concat(Enumerable.Range(501_222, 34)).Concat(Enumerable.Range(501_292, 20)).Concat(Enumerable.Range(514_029, 60)))
        {
            byte[] damaged = [.. stream];
            damaged[offset] ^= 0x10;
            Assert.True(Signature(damaged) != whole, $"byte {offset}");
        }
    }

    private static (MigrationStreamInfo Info, DeviceStateReport Report) Test(byte[] stream)
        => (MigrationStreams.GetInfo(Forward(stream)), MigrationStreams.Test(Forward(stream)));

    private static string Signature(byte[] stream)
    {
        try
        {
            var (info, report) = Test(stream);
            if (!report.Passed)
            {
                Assert.All(report.Checks.Where(c => !c.Passed), c => Assert.NotEmpty(c.RecommendedAction));
                return "failed";
            }

            var json = new StringWriter();
            MigrationStreams.WriteAnalyzeJson(Forward(stream), json);
            return JsonSerializer.Serialize(info) + json + MigrationStreams.GetDescription(Forward(stream));
        }
        catch (StreamException e)
        {
            Assert.Contains("'test'", e.Message, StringComparison.Ordinal);
            Assert.NotEmpty(e.RecommendedAction);
            return "refused";
        }
    }

    private static MigrationStreamInput Forward(byte[] stream) => new() { Path = "test", Forward = new ForwardOnly(stream) };
}

/// <summary>A stream that cannot seek, as a pipe; gives pieces of an odd size.</summary>
internal sealed class ForwardOnly(byte[] data, int piece = 65_521) : MemoryStream(data)
{
    public override bool CanSeek => false;

    public override int Read(Span<byte> buffer) => base.Read(buffer[..Math.Min(piece, buffer.Length)]);
}
