using System.Globalization;
using System.Text;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Writes a stream's contents in the form of QEMU's analyze-migration.py, byte for byte, so that its users can switch:
/// four spaces of indentation, integers as hexadecimal text, buffers as pairs of digits, equal names gathered in a list.
/// </summary>
internal sealed class AnalyzeJson(StreamContents contents, TextWriter output)
{
    private const int PieceLength = 4096;

    private readonly byte[] _piece = new byte[PieceLength];
    private int _depth;

    internal void Write()
    {
        // A section that comes again under its id (END after START) replaces what was there, in its old place.
        var order = new List<uint>();
        var latest = new Dictionary<uint, SectionContents>();
        foreach (var section in contents.Sections.Where(s => s.Header.Kind is SectionKind.Start or SectionKind.Full))
        {
            if (latest.TryAdd(section.Header.Id, section))
            {
                order.Add(section.Header.Id);
            }

            latest[section.Header.Id] = section;
        }

        WriteObject(order, id => $"{latest[id].Header.IdStr} ({id})", id => WriteSection(latest[id]));
        output.Write('\n');
    }

    private void WriteSection(SectionContents section)
    {
        var header = section.Header;
        if (header.IdStr == "ram")
        {
            WriteObject(["section sizes"], name => name,
                _ => WriteObject(contents.Ram, ram => ram.Block.Name, ram => WriteText($"0x{ram.Block.Length:x16}")));
        }
        else if (header.Kind == SectionKind.Full && contents.Description?.Find(header.IdStr, header.InstanceId) is { } described)
        {
            long before = contents.Budget.Used;
            WriteStructure(new FieldDecoder(contents.Bytes!, contents.Budget, header.Display).Decode(described, header.BodyOffset, section.BodyLength));
            contents.Budget.Return(contents.Budget.Used - before);
        }
        else
        {
            WriteText("");
        }
    }

    private void WriteStructure(StateNode node)
        => WriteObject([.. (node.Children ?? []).GroupBy(c => c.Name)], group => group.Key, group =>
        {
            // A subsection that has a field's name takes its place.
            StateNode[] nodes = [.. group];
            if ((nodes.Length > 1 || nodes[0].Count > 1) && !nodes[^1].IsSubsection)
            {
                WriteArray(nodes.SelectMany(n => n.Elements(contents.Bytes!)));
            }
            else
            {
                WriteValue(nodes[^1]);
            }
        });

    private void WriteValue(StateNode node)
    {
        switch (node.Type)
        {
            case "struct" or "subsection":
                WriteStructure(node);
                break;
            case "bool":
                output.Write(node.Number == 0 ? "false" : "true");
                break;
            case "nullptr":
                WriteText("nullptr");
                break;
            case var type when FieldTypes.IsInteger(type) && node.Size is > 0 and <= 8:
                long signed = FieldTypes.Signed(node.Number, node.Size);
                string digits = node.Number.ToString("x" + (2 * node.Size), CultureInfo.InvariantCulture);
                WriteText(FieldTypes.IsSigned(type) && signed < 0 ? $"0x{digits} ({signed})" : $"0x{digits}");
                break;
            default:
                WriteBuffer(node.Offset, node.Size);
                break;
        }
    }

    private void WriteBuffer(long offset, long size)
    {
        output.Write('"');
        for (long done = 0; done < size; done += PieceLength)
        {
            var piece = _piece.AsSpan(0, (int)Math.Min(PieceLength, size - done));
            contents.Bytes!.Read(offset + done, piece);
            for (int i = 0; i < piece.Length; i++)
            {
                if (done + i > 0)
                {
                    output.Write(' ');
                }

                output.Write(Digit(piece[i] >> 4));
                output.Write(Digit(piece[i] & 15));
            }
        }

        output.Write('"');
    }

    private void WriteObject<T>(IEnumerable<T> members, Func<T, string> name, Action<T> value) => WriteList(members, '{', '}', member =>
    {
        WriteText(name(member));
        output.Write(": ");
        value(member);
    });

    private void WriteArray(IEnumerable<StateNode> nodes) => WriteList(nodes, '[', ']', WriteValue);

    private void WriteList<T>(IEnumerable<T> items, char open, char close, Action<T> item)
    {
        output.Write(open);
        _depth++;
        bool first = true;
        foreach (var member in items)
        {
            output.Write(first ? "\n" : ",\n");
            first = false;
            Indent();
            item(member);
        }

        _depth--;
        if (!first)
        {
            output.Write('\n');
            Indent();
        }

        output.Write(close);
    }

    private void Indent()
    {
        for (int i = 0; i < _depth; i++)
        {
            output.Write("    ");
        }
    }

    private void WriteText(string text)
    {
        var escaped = new StringBuilder(text.Length + 2).Append('"');
        foreach (char c in text)
        {
            _ = c switch
            {
                '"' or '\\' => escaped.Append('\\').Append(c),
                < ' ' or > '~' => escaped.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}"),
                _ => escaped.Append(c),
            };
        }

        output.Write(escaped.Append('"').ToString());
    }

    private static char Digit(int value) => (char)(value < 10 ? '0' + value : 'a' + value - 10);
}
