namespace MigrationOps;

/// <summary>A device that takes part in the migrations of this session.</summary>
public sealed record SaveVmRegistration
{
    /// <summary>The name of its sections.</summary>
    public required string IdStr { get; init; }

    /// <summary>Its number among those of the same name.</summary>
    public required long InstanceId { get; init; }

    /// <summary>The version that it writes, and the newest that it reads.</summary>
    public required int VersionId { get; init; }

    /// <summary>The id of its sections in a stream that this session sends.</summary>
    public required long SectionId { get; init; }

    /// <summary>Devices of a higher priority come first.</summary>
    public required int Priority { get; init; }

    /// <summary>Other names under which its sections are accepted when loading, as "idstr" or "idstr/instance".</summary>
    public string[] Aliases { get; init; } = [];

    /// <summary>Which handlers it offers.</summary>
    public required SaveVmHandler Offered { get; init; }

    /// <summary>The class of the handlers, or "ScriptBlock".</summary>
    public required string Handlers { get; init; }
}
