using MigrationOps.Engine.Relay;
using MigrationOps.Engine.Tests.Vfio;

namespace MigrationOps.Engine.Tests.Relay;

/// <summary>Recorded migrations of real devices through a relay, as they were and with one thing wrong.</summary>
public class RelayCaptureTests
{
    // What only somebody can tell who knows the number of channels, or who takes a connection that is none for one.
    private static readonly Dictionary<string, string> OtherNames = new()
    {
        ["the device is unknown"] = "RelayUnknownDevice",
        ["the instance is unknown"] = "RelayUnknownDevice",
        ["a channel id is not below the number of channels"] = "MultifdMissingChannel",
        ["the main stream ends early"] = "RelaySourceEnded",
        ["the main stream ends inside a section"] = "RelaySourceEnded",
    };

    // What shows only when nothing comes any more.
    private static readonly string[] Silent =
    [
        "a data packet is missing", "the config packet is missing", "every packet of a device is missing", "the config packet lacks its flag",
        "a SYNC packet is missing", "a channel id is not below the number of channels", "every channel is missing",
    ];

    // Nothing begins that could end; and how many channels there are is not in the stream: only a gap in their numbers shows.
    private static readonly string[] Unseen = ["the main stream's magic is wrong", "a channel is missing"];

    public static TheoryData<string> Faults { get; } = [.. FaultTests.Names.Select(name => name.Data).Except(Unseen)];

    [Theory]
    [InlineData(Capture.Classic)]
    [InlineData(Capture.OneDevice)]
    [InlineData(Capture.ConfigFirst)]
    [InlineData(Capture.TwoDevices)]
    public void A_whole_migration_passes_byte_for_byte(string name)
    {
        var capture = new Capture(name);
        using var rig = new RelayRig();
        rig.Send(capture.Main);
        foreach (byte[] channel in capture.Channels)
        {
            rig.Send(channel);
        }

        var status = rig.WaitFor(s => s.Delivered || s.Failure is not null);
        Assert.Null(status.Failure);
        rig.EndSources();
        Assert.Equal(capture.Channels.Prepend(capture.Main).Select(Convert.ToHexString).Order(), rig.Received().Select(Convert.ToHexString).Order());
    }

    [Theory]
    [MemberData(nameof(Faults))]
    public void Each_fault_ends_both_sides_with_an_error_of_its_own(string fault)
    {
        var capture = new EditedCapture(Capture.ConfigFirst);
        int length = capture.Main.Length;
        var (error, alter) = FaultTests.Faults[fault];
        alter(capture);
        // Long enough for a busy machine, and no longer than a fault that shows by silence needs.
        using var rig = new RelayRig(new RelayOptions { Listen = null!, Target = null!, Timeout = Silent.Contains(fault) ? TimeSpan.FromSeconds(2.5) : TimeSpan.FromSeconds(60) });
        var main = rig.Send(capture.Main, ends: capture.Main.Length < length);
        rig.WaitFor(s => s.Phase != RelayPhase.Listening);
        for (int i = 0; i < capture.Channels.Count; i++)
        {
            rig.Send(capture.Bytes(i));
        }

        var status = rig.WaitFor(s => !s.IsRunning);
        Assert.Equal(RelayPhase.Failed, status.Phase);
        Assert.Equal(OtherNames.GetValueOrDefault(fault, error), Assert.IsType<MigrationOpsException>(status.Failure, exactMatch: false).ErrorId);
        Assert.False(status.Acknowledged);
        Assert.NotEmpty(((MigrationOpsException)status.Failure!).RecommendedAction);
        // Both sides have been closed.
        Assert.Equal(0, main.Read(new byte[1]));
        rig.Received();
    }
}
