using System.Globalization;

namespace MigrationOps.Engine.Streams;

/// <summary>A field of a structure with all its elements, which follow one another in the stream under one name.</summary>
internal sealed class FieldGroup
{
    private FieldGroup(string name, List<StateNode> elements)
    {
        Name = name;
        Elements = elements;
        Length = elements.Sum(e => e.Length);
        Count = elements.Sum(e => e.Count);
        IsStruct = elements.Exists(e => e.Children is not null && IsPlainStruct(e));
    }

    internal string Name { get; }

    internal List<StateNode> Elements { get; }

    /// <summary>Bytes in the stream.</summary>
    internal long Length { get; }

    /// <summary>How many elements; a long array of integers is one node of many.</summary>
    internal long Count { get; }

    internal bool IsStruct { get; }

    /// <summary>True if the elements have their own end in the stream, so that the destination needs no number of them.</summary>
    internal bool EndsItself => Elements[0].Type is "virtio" or "gtree" or "virtio-gpu" or "scsi-requests" or "shpc" || FieldTypes.IsList(Elements[0].Type);

    internal string TypeText => Count > 1 ? $"{Count} × {Elements[0].Type}" : Elements[0].Type;

    /// <summary>A description numbers a name that its layout has twice.</summary>
    internal string PlainName => Name.EndsWith(']') && Name.LastIndexOf('[') is > 0 and var bracket
        && int.TryParse(Name.AsSpan(bracket + 1, Name.Length - bracket - 2), CultureInfo.InvariantCulture, out _) ? Name[..bracket] : Name;

    /// <summary>The fields of a structure, without its subsections.</summary>
    internal static List<FieldGroup> Of(IEnumerable<StateNode> members)
    {
        var groups = new List<FieldGroup>();
        var run = new List<StateNode>();
        foreach (var member in members.Where(m => !m.IsSubsection && m.Length > 0))
        {
            if (run.Count > 0 && run[0].Name != member.Name)
            {
                groups.Add(new FieldGroup(run[0].Name, run));
                run = [];
            }

            run.Add(member);
        }

        if (run.Count > 0)
        {
            groups.Add(new FieldGroup(run[0].Name, run));
        }

        return groups;
    }

    /// <summary>True for a structure whose members are the layout's own, as opposed to what a decoder made of an opaque value.</summary>
    internal static bool IsPlainStruct(StateNode node) => node.Type is "struct" or "vstruct";

    /// <summary>The fields that are left when structures are opened: what the loader reads, one after another.</summary>
    internal IEnumerable<StateNode> Leaves() => Elements.SelectMany(Leaves);

    private static IEnumerable<StateNode> Leaves(StateNode node)
        => node.Children is { } children && IsPlainStruct(node) ? children.Where(c => c.Length > 0).SelectMany(Leaves) : [node];
}
