using System.Buffers;
using System.Text;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>Another name under which a source may know an entry.</summary>
/// <param name="IdStr">The name of the sections.</param>
/// <param name="InstanceId">The number among those of that name.</param>
internal readonly record struct SaveVmAlias(string IdStr, uint InstanceId)
{
    /// <summary>"idstr", or "idstr/instance" for other instances than the first.</summary>
    public override string ToString() => InstanceId == 0 ? IdStr : $"{IdStr}/{InstanceId}";
}

/// <summary>One registered device: what its sections are called, and its handlers.</summary>
internal sealed class SaveVmEntry
{
    internal SaveVmEntry(string idStr, uint instanceId, int versionId, uint sectionId, int priority, ISaveVmHandlers handlers, SaveVmAlias[] aliases)
    {
        IdStr = idStr;
        IdStrBytes = Encoding.UTF8.GetBytes(idStr);
        InstanceId = instanceId;
        VersionId = versionId;
        SectionId = sectionId;
        Priority = priority;
        Handlers = handlers;
        Offered = handlers.Offered;
        Aliases = aliases;
    }

    /// <summary>The name of the sections.</summary>
    public string IdStr { get; }

    /// <summary>The number among the entries of that name.</summary>
    public uint InstanceId { get; }

    /// <summary>The version that is written, and the newest that is read.</summary>
    public int VersionId { get; }

    /// <summary>The id of the sections in a stream that this side writes.</summary>
    public uint SectionId { get; }

    /// <summary>Entries of a higher priority come first.</summary>
    public int Priority { get; }

    /// <summary>The handlers.</summary>
    public ISaveVmHandlers Handlers { get; }

    /// <summary>Which handlers it had when it was registered.</summary>
    public SaveVmHandler Offered { get; }

    /// <summary>The other names under which its sections are accepted.</summary>
    public IReadOnlyList<SaveVmAlias> Aliases { get; }

    internal byte[] IdStrBytes { get; }

    /// <summary>"idstr", or "idstr/instance" for other instances than the first.</summary>
    public override string ToString() => new SaveVmAlias(IdStr, InstanceId).ToString();

    /// <summary>Writes the header of one of its sections.</summary>
    internal void WriteHeader(IBufferWriter<byte> output, SectionKind kind)
        => ElementWriter.Section(output, kind, SectionId, IdStrBytes, InstanceId, (uint)VersionId);

    internal bool Has(SaveVmHandler handler) => Offered.HasFlag(handler);

    /// <summary>Every name under which its sections are accepted, its own first.</summary>
    internal IEnumerable<SaveVmAlias> Names => Aliases.Prepend(new SaveVmAlias(IdStr, InstanceId));

    internal bool IsKnownAs(string idStr, uint instanceId) => Names.Contains(new SaveVmAlias(idStr, instanceId));
}
