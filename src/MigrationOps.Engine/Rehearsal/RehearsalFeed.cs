using System.Buffers;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>Writes a stream as a waiting QEMU takes it.</summary>
internal static class RehearsalFeed
{
    private const int BufferSize = 256 * 1024;

    /// <summary>Writes the stream as it is.</summary>
    internal static void WriteWhole(MigrationStreamInput input, Stream output, TransferScope scope)
    {
        using var source = input.Open(scope);
        byte[] buffer = new byte[BufferSize];
        long offset = 0;
        int count;
        while ((count = source.File is { } file ? file.Read(offset, buffer) : source.Forward!.Read(buffer)) > 0)
        {
            scope.CancellationToken.ThrowIfCancellationRequested();
            output.Write(buffer.AsSpan(0, count));
            offset += count;
        }
    }

    /// <summary>
    /// Writes the stream anew without its memory: the configuration, the block list, the pages that devices read, and every section
    /// and command beside those of RAM. What asks for answers or announces postcopy is left out, for nothing comes of it here.
    /// </summary>
    /// <exception cref="RehearsalException">A handler beside RAM has more sections than are kept.</exception>
    internal static void WriteWithoutMemory(StreamContents contents, RehearsalPages pages, Stream output, TransferScope scope)
    {
        var buffer = new ArrayBufferWriter<byte>();
        ElementWriter.Header(buffer);
        if (contents.Configuration is { } configuration)
        {
            ElementWriter.Configuration(buffer, configuration with { Capabilities = [.. configuration.Capabilities.Where(c => c != StreamFormat.MappedRamCapability)] });
        }

        foreach (var (section, command) in InOrder(contents))
        {
            scope.CancellationToken.ThrowIfCancellationRequested();
            if (command is { Id: StreamCommandId.SwitchoverStart })
            {
                ElementWriter.Command(buffer, command.Id, command.Data);
            }
            else if (section is { Header.IdStr: "ram" })
            {
                WriteRam(buffer, contents, section.Header, pages);
            }
            else if (section is not null)
            {
                WriteHeader(buffer, section.Header);
                Flush(buffer, output);
                CopyBody(contents, section, output, scope);
                WriteFooter(buffer, contents, section.Header);
            }

            Flush(buffer, output);
        }

        ElementWriter.Eof(buffer);
        if (contents.DescriptionJson is { } json)
        {
            ElementWriter.Description(buffer, json);
        }

        Flush(buffer, output);
    }

    private static IEnumerable<(SectionContents? Section, StreamCommand? Command)> InOrder(StreamContents contents)
        => contents.Sections.Select(s => (s.Header.Offset, Section: (SectionContents?)s, Command: (StreamCommand?)null))
            .Concat(contents.Commands.Select(c => (c.Offset, Section: (SectionContents?)null, Command: (StreamCommand?)c)))
            .OrderBy(e => e.Offset).Select(e => (e.Section, e.Command));

    // A part of the memory carries pages alone; the end comes once, and background-snapshot leaves it out.
    private static void WriteRam(ArrayBufferWriter<byte> buffer, StreamContents contents, StreamSection header, RehearsalPages pages)
    {
        if (header.Kind == SectionKind.Part)
        {
            return;
        }

        WriteHeader(buffer, header);
        if (header.Kind == SectionKind.Start)
        {
            RamBodyWriter.WriteBlocks(buffer, [.. contents.Ram.Select(r => r.Block)], contents.HasCapability(StreamFormat.IgnoreSharedCapability));
            WriteFooter(buffer, contents, header);

            // In a part of their own, so that they are there before any device.
            ElementWriter.Section(buffer, SectionKind.Part, header.Id, default, 0, 0);
            foreach (var (block, offset, data) in pages.Pages)
            {
                RamBodyWriter.WritePage(buffer, block, offset, data);
            }
        }

        RamBodyWriter.WriteEnd(buffer);
        WriteFooter(buffer, contents, header);
    }

    private static void WriteHeader(ArrayBufferWriter<byte> buffer, StreamSection header)
        => ElementWriter.Section(buffer, header.Kind, header.Id, System.Text.Encoding.UTF8.GetBytes(header.IdStr), header.InstanceId, header.VersionId);

    private static void WriteFooter(ArrayBufferWriter<byte> buffer, StreamContents contents, StreamSection header)
    {
        if (contents.HasFooters)
        {
            ElementWriter.Footer(buffer, header.Id);
        }
    }

    private static void CopyBody(StreamContents contents, SectionContents section, Stream output, TransferScope scope)
    {
        byte[] piece = new byte[BufferSize];
        for (long done = 0; done < section.BodyLength;)
        {
            scope.CancellationToken.ThrowIfCancellationRequested();
            int count = (int)Math.Min(piece.Length, section.BodyLength - done);
            contents.Bytes!.Read(section.Header.BodyOffset + done, piece.AsSpan(0, count));
            output.Write(piece.AsSpan(0, count));
            done += count;
        }
    }

    private static void Flush(ArrayBufferWriter<byte> buffer, Stream output)
    {
        output.Write(buffer.WrittenSpan);
        buffer.Clear();
    }
}
