using MigrationOps.Engine.SaveVm;

namespace MigrationOps.Engine.Tests.SaveVm;

public class SaveVmRegistryTests
{
    private readonly SaveVmRegistry _registry = new();

    [Fact]
    public void Section_ids_follow_the_registration_and_the_order_follows_the_priority()
    {
        var low = Register("low");
        var high = Register("high", priority: 5);
        var next = Register("next");
        Assert.Equal([1u, 2u, 3u], [low.SectionId, high.SectionId, next.SectionId]);
        Assert.Equal(["high", "low", "next"], _registry.Entries.Select(e => e.IdStr));
        _registry.Unregister("high");
        Assert.Equal(4u, Register("last").SectionId);
    }

    [Fact]
    public void Instance_id_any_is_the_next_free_number_of_that_name()
    {
        Assert.Equal(0u, Register("a").InstanceId);
        Assert.Equal(7u, Register("a", 7).InstanceId);
        Assert.Equal(8u, Register("a").InstanceId);
        Assert.Equal(0u, Register("b").InstanceId);
    }

    [Fact]
    public void The_next_free_number_leaves_out_what_aliases_take_and_starts_again_after_the_last()
    {
        Register("new", 0, aliases: [new SaveVmAlias("old", 0), new SaveVmAlias("new", 4)]);
        Assert.Equal(1u, Register("old").InstanceId);
        Assert.Equal(5u, Register("new").InstanceId);
        Register("new", uint.MaxValue - 1L);
        Assert.Equal(1u, Register("new").InstanceId);
        Assert.Equal(2u, Register("new").InstanceId);
    }

    [Fact]
    public void A_device_that_has_a_name_twice_is_refused()
    {
        Fails(SaveVmError.DuplicateEntry, () => Register("a", 0, aliases: new SaveVmAlias("a", 0)));
        Fails(SaveVmError.DuplicateEntry, () => Register("a", 0, aliases: [new SaveVmAlias("b", 1), new SaveVmAlias("b", 1)]));
        Fails(SaveVmError.InvalidName, () => Register("a", 0, aliases: new SaveVmAlias(new string('x', 256), 0)));
        Assert.Empty(_registry.Entries);
    }

    [Fact]
    public void A_taken_name_is_refused_also_as_an_alias()
    {
        Register("a", 0, aliases: new SaveVmAlias("old", 3));
        Fails(SaveVmError.DuplicateEntry, () => Register("a", 0));
        Fails(SaveVmError.DuplicateEntry, () => Register("old", 3));
        Fails(SaveVmError.DuplicateEntry, () => Register("b", 0, aliases: new SaveVmAlias("a", 0)));
    }

    [Theory]
    [InlineData("")]
    [InlineData("a\nb")]
    public void A_name_that_is_no_name_is_refused(string name) => Fails(SaveVmError.InvalidName, () => Register(name));

    [Fact]
    public void A_name_has_room_for_255_bytes()
    {
        Assert.Equal(255, Register(new string('x', 255)).IdStr.Length);
        Fails(SaveVmError.InvalidName, () => Register(new string('x', 256)));
        Fails(SaveVmError.InvalidName, () => Register(new string('ü', 128)));
    }

    [Theory]
    [InlineData(SaveVmHandler.None)]
    [InlineData(SaveVmHandler.SaveLiveCompletePrecopy)]
    [InlineData(SaveVmHandler.SaveSetup | SaveVmHandler.SaveLiveIterate)]
    public void Handlers_that_cannot_work_together_are_refused(SaveVmHandler offered)
        => Fails(SaveVmError.InvalidHandlers, () => _registry.Register("a", -1, 1, new ScriptedDevice("a", new CallLog(), offered)));

    [Fact]
    public void Unregister_takes_out_a_name_or_one_device_of_it_and_names_what_is_not_there()
    {
        var first = Register("a");
        Register("a");
        Assert.Equal([first], _registry.Unregister("a", first.Handlers));
        Assert.Single(_registry.Unregister("a"));
        Fails(SaveVmError.NotRegistered, () => _registry.Unregister("a"));
        Fails(SaveVmError.NotRegistered, () => _registry.Unregister(first));
    }

    [Fact]
    public void A_class_offers_the_handlers_that_it_has_written()
    {
        ISaveVmHandlers handlers = new OnlyState();
        Assert.Equal(SaveVmHandler.SaveState | SaveVmHandler.LoadState, handlers.Offered);
        Assert.Throws<NotSupportedException>(() => handlers.SaveCleanup(null!));
    }

    private static void Fails(SaveVmError reason, Action action) => Assert.Equal(reason, Assert.Throws<SaveVmException>(action).Reason);

    private SaveVmEntry Register(string name, long instance = -1, int priority = 0, params SaveVmAlias[] aliases)
        => _registry.Register(name, instance, 1, new ScriptedDevice(name, new CallLog(), ScriptedDevice.Whole), priority, aliases);

    private sealed class OnlyState : ISaveVmHandlers
    {
        void ISaveVmHandlers.SaveState(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt16(1);

        public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId) => stream.ReadUInt16();
    }
}
