using FsCheck.Fluent;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Tests.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Qemu;

/// <summary>
/// A receipt and the reader of recorded channels put a device's packets into the same order, and refuse the same ones with the same
/// reason: no recording is taken as whole that a target refuses, and none is refused that a target takes.
/// </summary>
public sealed class PacketAgreementTests : IDisposable
{
    private static readonly StreamSection Device = new(SectionKind.Start, 1, "v/vfio", 0, 1, 0, 0);

    private readonly TestFolder _folder = new();
    private readonly TransferScope _scope = new(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData(Capture.OneDevice)]
    [InlineData(Capture.ConfigFirst)]
    [InlineData(Capture.TwoDevices)]
    public void A_recording_of_real_devices_is_the_same_to_both(string name)
    {
        var capture = new Capture(name);
        var received = Reception.Run(capture.Streams()).Devices;
        Assert.NotEmpty(received);
        foreach (var (summary, data, config) in received)
        {
            var section = Device with { IdStr = summary.IdStr, InstanceId = summary.InstanceId };

            // What came in the main stream before it came first.
            var overChannels = data.AsSpan((int)summary.PrecopyBytes);
            Assert.False(overChannels.IsEmpty);
            Assert.Equal($"{Convert.ToHexString(overChannels)} {Convert.ToHexString(config)}", Recorded(section, capture.Channels));
        }
    }

    [Fact]
    public void Whatever_packets_come_in_whatever_order_both_say_the_same()
    {
        int whole = 0;
        var reasons = new HashSet<string>();
        var packets = from count in Gen.Choose(0, 5)
                      from order in Gen.Shuffle(Enumerable.Range(0, count + 1))
                      from faults in Gen.Choose(0, 2)
                      from drawn in Gen.Choose(0, 5).Zip(Gen.Elements(false, false, false, true), (index, isConfig) => (index, isConfig)).ArrayOf(faults)
                      from removed in Gen.Choose(0, 9)
                      from cut in Gen.Choose(0, 9)
                      select (Packets: order.Where(i => i != removed).Select(i => (Index: i, IsConfig: i == count)).Concat(drawn).ToArray(), cut);
        Property.Holds(packets, drawn =>
        {
            int cut = Math.Min(drawn.cut, drawn.Packets.Length);
            byte[][] channels = [Channel(0, drawn.Packets[..cut]), Channel(1, drawn.Packets[cut..])];
            string received = Received(channels);
            Assert.Equal(received, Recorded(Device, channels));
            whole += received.Contains(' ', StringComparison.Ordinal) ? 1 : 0;
            reasons.Add(received.Contains(' ', StringComparison.Ordinal) ? "" : received);
        }, tries: 150);

        // The cases that were drawn are whole states and faults of many kinds.
        Assert.True(whole > 10, $"{whole} whole states");
        Assert.True(reasons.Count >= 6, string.Join(", ", reasons));
    }

    private static byte[] Channel(int id, IEnumerable<(int Index, bool IsConfig)> packets)
        => [.. HandMade.Init(id), .. packets.SelectMany(p => HandMade.Packet(
            Device, p.Index, p.IsConfig ? HandMade.Config(4) : [(byte)p.Index, 7], p.IsConfig))];

    private static string Received(IReadOnlyList<byte[]> channels)
    {
        using var main = new MemoryStream();
        var writer = new MainStreamWriter(main);
        writer.Begin([]);
        writer.Section(SectionKind.Start, Device, HandMade.Setup());
        writer.StartSwitchover();
        writer.End();
        return Outcome(() =>
        {
            var (_, data, config) = Assert.Single(Reception.RunInTurn(main.ToArray(), channels, new ReceiveOptions(), TimeSpan.FromSeconds(60)).Devices);
            return $"{Convert.ToHexString(data)} {Convert.ToHexString(config)}";
        });
    }

    private string Recorded(StreamSection device, IReadOnlyList<byte[]> channels)
    {
        var files = new List<FileStream>();
        try
        {
            for (int i = 0; i < channels.Count; i++)
            {
                string path = _folder[$"channel{i}"];
                File.WriteAllBytes(path, channels[i]);
                files.Add(File.OpenRead(path));
            }

            return Outcome(() =>
            {
                var found = VfioChannels.Collect(files, device, 4096, new MemoryBudget(64 << 20), _scope);
                return $"{string.Concat(found.Data.Select(Read))} {Convert.ToHexString(found.Config)}";
            });
        }
        finally
        {
            files.ForEach(file => file.Dispose());
        }
    }

    private static string Read(VfioChannels.Piece piece)
    {
        byte[] bytes = new byte[piece.Length];
        Assert.Equal(bytes.Length, RandomAccess.Read(piece.File.SafeFileHandle, bytes, piece.Offset));
        return Convert.ToHexString(bytes);
    }

    private static string Outcome(Func<string> run)
    {
        try
        {
            return run();
        }
        catch (StreamException e)
        {
            return e.Reason.ToString();
        }
    }
}
