namespace MigrationOps;

/// <summary>The side of a migration that owns the VM: it may run only there.</summary>
public enum MigrationOwner
{
    /// <summary>The source: the target never ran it.</summary>
    Source = 0,

    /// <summary>The target: it runs it, or may start it.</summary>
    Target = 1,

    /// <summary>
    /// This side cannot know: the target was told to run and has not answered. The VM must not run here before an operator has
    /// looked there.
    /// </summary>
    Unknown = 2,
}
