using MigrationOps.Engine.Relay;

namespace MigrationOps.Interop.Tests.Relay;

/// <summary>Real QEMUs migrate through a relay.</summary>
public class MigrationRelayTests
{
    private const string Program = "qemu-system-x86_64";

    public static TheoryData<string, int, string, bool> Migrations { get; } = new()
    {
        { Program, 0, "none", false },
        { Program, 2, "none", true },
        { Program, 4, "zstd", false },
        { Program + "-trixie", 4, "none", false },
        { RelayedPair.Newest, 0, "none", true },
        { RelayedPair.Newest, 4, "none", false },
        { RelayedPair.Newest, 2, "zstd", true },
        { RelayedPair.Older, 0, "none", false },
        { RelayedPair.Older, 2, "none", true },
        { RelayedPair.Older, 4, "zstd", false },
    };

    [Theory]
    [MemberData(nameof(Migrations))]
    public void A_migration_goes_through_and_is_known_to_be_acknowledged(string program, int channels, string compression, bool tcp)
    {
        using var pair = RelayedPair.Start(program, channels == 0 ? null : RelayedPair.Multifd(channels, compression), tcp: tcp);
        pair.Migrate();
        var status = pair.AssertMoved();
        Assert.Equal((RelayPhase.Acknowledged, true, true, (uint?)0), (status.Phase, status.Delivered, status.Acknowledged, status.TargetSaid));
        Assert.Equal(channels + 1, status.Channels.Count);
        Assert.Equal("main", status.Channels[0].Name);
        Assert.All(status.Channels, channel => Assert.True(channel is { Bytes: > 0, Elements: > 0 }, channel.ToString()));
        Assert.Empty(status.Warnings);
        Assert.StartsWith("pc-i440fx", status.Machine);
    }

    [Theory]
    [InlineData(Program)]
    [InlineData(RelayedPair.Newest)]
    [InlineData(RelayedPair.Older)]
    public void The_last_word_of_the_target_waits_until_it_is_released(string program)
    {
        using var pair = RelayedPair.Start(program, faults: [new(RelayFaultKind.Hold, RelayPoint.Shut) { Moment = RelayMoment.Before }]);
        pair.Migrate();
        var status = pair.Relay.WaitFor(s => s.Struck.Count == 1, RelayedPair.Cancelled);
        Assert.Equal((true, false, (uint?)0), (status.Delivered, status.Acknowledged, status.TargetSaid));
        pair.Target.WaitUntil(() => pair.Target.Status == "running", "the guest runs at the target");
        Assert.Contains(pair.Source.MigrationStatus, new[] { "device", "active" });
        pair.Relay.Release();
        Assert.True(pair.AssertMoved().Acknowledged);
    }

    [Theory]
    [InlineData(Program, 0)]
    [InlineData(RelayedPair.Newest, 2)]
    [InlineData(RelayedPair.Older, 0)]
    public void A_break_to_order_leaves_the_guest_at_the_source(string program, int channels)
    {
        using var pair = RelayedPair.Start(program, channels == 0 ? null : RelayedPair.Multifd(channels),
            [new(RelayFaultKind.Break, RelayPoint.Switchover) { Moment = RelayMoment.Before }]);
        pair.Migrate();
        Assert.Equal(RelayError.BrokenToOrder, Assert.IsType<RelayException>(pair.AssertFailed()).Reason);
        Assert.False(pair.Relay.Status.Delivered);
    }

    // The target would wait for ever for what the damaged channel does not bring, its monitor dead. QEMU 7.2 may lock itself up all the same
    // when its channels end (docs/relay.md), so it has no row.
    [Theory]
    [InlineData(Program, 2, 0)]
    [InlineData(Program, 4, 16)]
    [InlineData(RelayedPair.Newest, 2, 12)]
    public void A_damaged_channel_ends_both_sides_with_the_error_that_names_it(string program, int channels, int damaged)
    {
        var damage = new RelayFault(RelayFaultKind.Damage, RelayPoint.Packet) { Channel = 1, Number = 2, Byte = damaged, Bytes = [0xff, 0xff] };
        RelayDamager? damager = null;
        using var pair = RelayedPair.Start(program, RelayedPair.Multifd(channels));
        using (damager = new RelayDamager(pair, damage))
        {
            damager.Migrate();
            var failure = pair.AssertFailed();
            Assert.True(failure is Engine.Qemu.StreamException { Section: "channel 1" }, failure.ToString());
            pair.Target.WaitUntil(() => pair.Target.HasExited || EndsOrAnswers(pair.Target), "the target ends, or answers");
        }
    }

    // It may end while it is asked.
    private static bool EndsOrAnswers(QemuProcess target)
    {
        try
        {
            return target.Status == "inmigrate";
        }
        catch (IOException e) when (e.InnerException is Engine.Qmp.QmpException { Reason: Engine.Qmp.QmpError.QemuExited or Engine.Qmp.QmpError.ConnectionLost })
        {
            return true;
        }
    }

    [Theory]
    [InlineData(Program, "Break", "Byte", "After", null, "BrokenToOrder")]
    [InlineData(RelayedPair.Newest, "BreakChannel", "Packet", "After", 1, "SourceEnded")]
    [InlineData(RelayedPair.Older, "Break", "Pong", "Before", null, "BrokenToOrder")]
    public void A_fault_to_order_strikes_once_where_it_was_put(string program, string kind, string element, string moment, int? channel, string error)
    {
        var point = Enum.Parse<RelayPoint>(element);
        var fault = new RelayFault(Enum.Parse<RelayFaultKind>(kind), point)
        {
            Moment = Enum.Parse<RelayMoment>(moment),
            Channel = channel,
            Byte = point == RelayPoint.Byte ? 2000 : 0,
        };
        using var pair = RelayedPair.Start(program, channel is null ? null : RelayedPair.Multifd(2), [fault]);
        pair.Migrate();
        Assert.Equal(error, Assert.IsType<RelayException>(pair.AssertFailed()).Reason.ToString());
        Assert.Equal([fault], pair.Relay.Status.Struck);
        if (point == RelayPoint.Byte)
        {
            Assert.Equal(2000, pair.Relay.Status.Bytes);
        }
    }

    [Theory]
    [InlineData(Program)]
    [InlineData(RelayedPair.Newest)]
    public void A_section_damaged_on_the_way_is_refused_by_the_target_and_the_source_keeps_its_guest(string program)
    {
        var damage = new RelayFault(RelayFaultKind.Damage, RelayPoint.Section) { Section = "cpu_common", Byte = 18, Bytes = [0x7f] };
        using var pair = RelayedPair.Start(program, faults: [damage]);
        pair.Migrate();
        var failure = Assert.IsType<RelayException>(pair.AssertFailed());
        Assert.Contains(failure.Reason, new[] { RelayError.TargetEnded, RelayError.TargetFailed, RelayError.NotAcknowledged });
        Assert.Equal([damage], pair.Relay.Status.Struck);
    }
}
