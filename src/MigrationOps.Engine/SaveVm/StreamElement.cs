using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.SaveVm;

/// <summary>One element of a stream's framing: everything that is not the body of a section.</summary>
internal abstract record StreamElement
{
    private StreamElement()
    {
    }

    /// <summary>The magic and version, which have been checked.</summary>
    internal sealed record Header : StreamElement;

    /// <summary>The CONFIGURATION section.</summary>
    internal sealed record Configuration(string MachineType, int? PageBits, IReadOnlyList<string> Capabilities, Guid? Uuid) : StreamElement;

    /// <summary>The head of a START or FULL section.</summary>
    internal sealed record SectionStart(SectionKind Type, uint Id, string IdStr, uint InstanceId, uint VersionId) : StreamElement;

    /// <summary>The head of a PART or END section.</summary>
    internal sealed record SectionPart(SectionKind Type, uint Id) : StreamElement;

    /// <summary>The end of a section's body.</summary>
    internal sealed record Footer(uint Id) : StreamElement;

    /// <summary>A command with its data.</summary>
    internal sealed record Command(StreamCommandId Id, byte[] Data) : StreamElement;

    /// <summary>The head of the description; its JSON follows.</summary>
    internal sealed record Description(int Length) : StreamElement;

    /// <summary>The end mark.</summary>
    internal sealed record Eof : StreamElement;
}
