namespace MigrationOps.Engine.Qemu;

/// <summary>
/// One element of a stream's framing: everything that is not the body of a section. <see cref="StreamConfiguration"/>,
/// <see cref="StreamSection"/> and <see cref="StreamCommand"/> are the others.
/// </summary>
/// <param name="Offset">Where its type byte lies in the stream.</param>
internal abstract record StreamElement(long Offset);

/// <summary>The header of a PART or END section, which has no name: its START section had it.</summary>
internal sealed record SectionPart(SectionKind Kind, uint Id, long Offset, long BodyOffset) : StreamElement(Offset);

/// <summary>The end of a section's body.</summary>
internal sealed record SectionFooter(uint Id, long Offset) : StreamElement(Offset);

/// <summary>The end mark.</summary>
internal sealed record StreamEnd(long Offset) : StreamElement(Offset);

/// <summary>The header of the description; its JSON follows.</summary>
internal sealed record DescriptionHeader(int Length, long Offset) : StreamElement(Offset);
