using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>What the loader checks before it reads a device: the configuration and the commands.</summary>
internal static class ConfigurationRules
{
    private const string Part = "configuration";

    internal static void Check(Findings findings, StreamContents reference, StreamContents difference)
    {
        if (reference.Configuration is { } mine && difference.Configuration is { } theirs)
        {
            Compare(findings, "machine type", "the machine type differs", mine.MachineType, theirs.MachineType);
            Compare(findings, "capabilities", "the capabilities differ that both sides must set alike", Names(mine), Names(theirs));
            if (mine.Uuid is { } uuid && theirs.Uuid is { } uuidThere && uuid != uuidThere)
            {
                findings.Error(Part, "uuid", "the VM's UUID differs", $"{uuid}", $"{uuidThere}");
            }
        }
        else if (reference.Configuration is null != difference.Configuration is null)
        {
            findings.Error(Part, "", "one side writes no configuration (send-configuration=off, or a machine type before 2.3), and the other expects it",
                reference.Configuration?.MachineType ?? "none", difference.Configuration?.MachineType ?? "none");
        }

        Compare(findings, "page size", "the pages of the target have another size", $"{reference.PageSize}", $"{difference.PageSize}");
        if (reference.HasFooters != difference.HasFooters)
        {
            findings.Error(Part, "footers", "sections end with a footer on one side only (send-section-footer, or a machine type before 2.3)",
                reference.HasFooters ? "footers" : "none", difference.HasFooters ? "footers" : "none");
        }

        CheckCommands(findings, reference, difference);
    }

    private static void CheckCommands(Findings findings, StreamContents reference, StreamContents difference)
    {
        bool Has(StreamContents contents, StreamCommandId id) => contents.Commands.Exists(c => c.Id == id);
        if (Has(reference, StreamCommandId.PostcopyAdvise) && !Has(difference, StreamCommandId.PostcopyAdvise))
        {
            findings.Warning("commands", nameof(StreamCommandId.PostcopyAdvise), "the stream announces postcopy: the destination must set the capability postcopy-ram before it loads it");
        }
    }

    private static void Compare(Findings findings, string field, string detail, string mine, string theirs)
    {
        if (mine != theirs)
        {
            findings.Error(Part, field, detail, mine, theirs);
        }
    }

    private static string Names(StreamConfiguration configuration) => string.Join(", ", configuration.Capabilities.Order());
}
