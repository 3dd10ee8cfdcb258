namespace MigrationOps.Engine.Tests.Support;

/// <summary>Tests that look at the whole process (its descriptors, its limits, its memory) run while no other test does.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class Alone
{
    public const string Name = "alone";
}
