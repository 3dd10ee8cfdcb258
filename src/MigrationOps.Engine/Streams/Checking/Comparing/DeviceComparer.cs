using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>Compares a device's state in two streams: its layout first, then what the loader checks of its values.</summary>
internal sealed class DeviceComparer(StreamContents reference, StreamContents difference, Findings findings)
{
    private const int MaxBuffer = 1 << 20;

    internal void Compare(SectionContents section, SectionContents other, bool withValues)
    {
        string device = SectionRules.NameOf(section.Header);
        long before = reference.Budget.Used, otherBefore = difference.Budget.Used;
        int found = findings.Count;
        try
        {
            var mine = DeviceDecoder.Decode(reference, section);
            var theirs = DeviceDecoder.Decode(difference, other);
            var pairs = new LayoutComparer(findings, device).Compare(mine, theirs, section.Header.VersionId < other.Header.VersionId);
            foreach (var pair in pairs)
            {
                CheckPair(device, pair);
            }

            new ProcessorRules(findings, device, this).Check(mine, pairs);
            if (withValues)
            {
                new ValueComparer(reference, difference, findings, device).Compare(mine, theirs);
            }
        }
        catch (StreamException e) when (e.Reason is StreamError.DescriptionMismatch or StreamError.NoDescription)
        {
            findings.Warning(device, "", $"its fields cannot be compared: {e.Message}");
        }
        finally
        {
            // The lines that were found stay.
            long kept = (findings.Count - found) * Findings.BytesPerLine;
            reference.Budget.Return(Math.Max(0, reference.Budget.Used - before - kept));
            difference.Budget.Return(difference.Budget.Used - otherBefore);
        }
    }

    /// <summary>The bytes of a field of the stream that is to be loaded.</summary>
    internal byte[] Mine(StateNode node) => Read(reference, node);

    /// <summary>The bytes of a field as the destination writes it.</summary>
    internal byte[] Theirs(StateNode node) => Read(difference, node);

    /// <summary>The numbers of an array, or the only one of a field, of the stream that is to be loaded.</summary>
    internal IEnumerable<ulong> MyNumbers(StateNode node) => node.Elements(reference.Bytes!).Select(e => e.Number);

    /// <summary>The same as the destination writes it.</summary>
    internal IEnumerable<ulong> TheirNumbers(StateNode node) => node.Elements(difference.Bytes!).Select(e => e.Number);

    private void CheckPair(string device, FieldPair pair)
    {
        switch (pair.Theirs.Type)
        {
            case PciConfigRules.FieldType:
                PciConfigRules.Check(findings, device, pair.Path, Mine(pair.Mine), Theirs(pair.Theirs));
                break;
            case VirtioRules.FieldType:
                new VirtioRules(findings, device, this, difference.Description!.RepeatsElements).Check(pair);
                break;
            case VirtioScanouts.FieldType:
                VirtioScanouts.Check(findings, device, pair.Path, Mine(pair.Mine), Theirs(pair.Theirs));
                break;
            default:
                ValueRules.Check(findings, device, pair, this);
                break;
        }
    }

    private static byte[] Read(StreamContents contents, StateNode node)
    {
        var data = new byte[Math.Min(node.Length, MaxBuffer)];
        contents.Bytes!.Read(node.Offset, data);
        return data;
    }
}
