using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Tests.Cpr;

[Collection(nameof(DescriptorLimit))]
public class CprExecStateTests
{
    [Fact]
    public void An_executed_state_exposes_its_descriptors_until_it_is_disposed()
    {
        using var memory = CprPeer.Memory(out _);
        using var registry = new CprFdRegistry();
        var entry = registry.SaveFd(CprName.Parse("m0"), 0, memory);
        using (CprExecState.Write(registry.Entries, []))
        {
            Assert.False(Fcntl.IsCloseOnExec(entry.Handle));
            Assert.Equal(1, CprPeer.CountOpen(CprExecState.VariableName));
            Assert.NotNull(Environment.GetEnvironmentVariable(CprExecState.VariableName));
        }

        Assert.Null(Environment.GetEnvironmentVariable(CprExecState.VariableName));
        Assert.True(Fcntl.IsCloseOnExec(entry.Handle));
        Assert.Equal(0, CprPeer.CountOpen(CprExecState.VariableName));
    }

    [Fact]
    public void What_is_written_for_the_next_program_reads_back_there()
    {
        using var memory = CprPeer.Memory(out string unique);
        using var registry = new CprFdRegistry();
        registry.SaveFd(CprName.Parse("m0"), 0, memory);
        registry.SaveFd(CprName.Parse("m1"), 9, memory);
        CprVfioDevice[] devices = [new(CprName.Parse("0000:3a:00.0"), 7, 1, 2)];
        // The next program is this one: it has the numbers under the same names, as after an exec.
        var state = CprExecState.Write(registry.Entries, devices);
        using var set = CprExecState.Read(state.VariableValue);
        Assert.Equal([("m1", 9), ("m0", 0)], set.Entries.Select(entry => (entry.Name.ToString(), entry.Id)));
        Assert.Equal(devices, set.VfioDevices!);
        Assert.All(set.Entries, entry => Assert.True(Fcntl.IsCloseOnExec(entry.Handle)));
        foreach (var entry in registry.Entries)
        {
            entry.Handle.SetHandleAsInvalid();
        }

        state.Abandon();
        Assert.Equal(3, CprPeer.CountOpen(unique));
        set.Dispose();
        Assert.Equal(1, CprPeer.CountOpen(unique));
        Assert.Equal(0, CprPeer.CountOpen(CprExecState.VariableName));
    }

    [Theory]
    [InlineData(null, CprError.NothingToDo)]
    [InlineData("x", CprError.NothingToDo)]
    [InlineData("-1", CprError.NothingToDo)]
    [InlineData("987654", CprError.MissingDescriptor)]
    public void A_variable_that_leads_to_no_state_is_an_error(string? value, CprError expected)
        => Assert.Equal(expected, Assert.Throws<CprException>(() => CprExecState.Read(value)).Reason);

    [Fact]
    public void A_state_that_names_a_descriptor_of_our_own_takes_nothing_over()
    {
        using var memory = CprPeer.Memory(out _);
        using var own = CprPeer.Memory(out _);
        using var registry = new CprFdRegistry();
        registry.SaveFd(CprName.Parse("m0"), 0, own);
        var entry = registry.SaveFd(CprName.Parse("m1"), 0, memory);
        using var state = CprExecState.Write(registry.Entries, []);
        Fcntl.SetCloseOnExec(registry.FindFd(CprName.Parse("m0"), 0)!.Handle, true, "test");
        var error = Assert.Throws<CprException>(() => CprExecState.Read(state.VariableValue));
        Assert.Equal(CprError.MissingDescriptor, error.Reason);
        Assert.Contains("'m0', id 0", error.Message);
        entry.Verify();
        Assert.False(Fcntl.IsCloseOnExec(entry.Handle));
    }
}
