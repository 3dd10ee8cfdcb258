using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>How a stream is read.</summary>
internal sealed record StreamReadOptions
{
    /// <summary>Memory beyond what is exported.</summary>
    internal long MaxMemory { get; init; } = MemoryBudget.Default;

    /// <summary>True to keep the bodies of sections of a stream that cannot be read again, so that they can be decoded.</summary>
    internal bool KeepBodies { get; init; }

    /// <summary>True to keep those of iterative handlers as well.</summary>
    internal bool KeepAllBodies { get; init; }

    /// <summary>Who wants the pages of RAM.</summary>
    internal RamImage? Pages { get; init; }
}

/// <summary>Reads a whole stream: the walk, the description, the channels of an archive.</summary>
internal static class MigrationStreamFile
{
    /// <summary>
    /// Reads everything that can be read. A stream that is damaged or cut gives what came before, with
    /// <see cref="StreamContents.Failure"/> telling why and where it ended.
    /// </summary>
    internal static StreamContents Read(StreamSource source, StreamReadOptions options, TransferScope scope)
    {
        var contents = new StreamContents(new MemoryBudget(options.MaxMemory)) { Name = source.Name, Libvirt = source.Libvirt };
        try
        {
            ReadMain(contents, source, options, scope);
            foreach (var channel in source.Channels)
            {
                ReadChannel(contents, channel, options, scope);
            }

            return contents;
        }
        catch
        {
            contents.Dispose();
            throw;
        }
    }

    private static void ReadMain(StreamContents contents, StreamSource source, StreamReadOptions options, TransferScope scope)
    {
        SpooledBytes? spool = null;
        if (source.CanSeek)
        {
            contents.Bytes = new FileBytes(source.Handle, source.BaseOffset);
        }
        else if (options.KeepBodies || options.KeepAllBodies)
        {
            contents.Bytes = spool = new SpooledBytes();
        }

        var known = source.CanSeek ? DescriptionLocator.Find(source.Handle, source.BaseOffset, contents.Budget) : null;
        var builder = new ContentsBuilder(contents, spool, options.KeepAllBodies) { Pages = options.Pages };
        var walker = new StreamWalker(builder, known);
        try
        {
            contents.PageSize = walker.PageSize;
            contents.Length = StreamPump.Run(source.Input, walker, scope);
            ReadDescription(contents, known);
        }
        catch (StreamException e)
        {
            contents.Failure = e;
            contents.Length = Math.Max(contents.Length, walker.Offset);
            if (contents.Description is null && known is not null && e.Reason != StreamError.InvalidDescription)
            {
                contents.Description = known;
            }
        }

        if (source.Libvirt is { IsPartial: true } && contents.Failure is null)
        {
            contents.Failure = new StreamException(StreamError.Truncated, $"libvirt had not finished the save image '{source.Name}'.") { Target = source.Name };
        }
    }

    private static void ReadDescription(StreamContents contents, StreamDescription? known)
    {
        if (contents.DescriptionJson is not { } json)
        {
            return;
        }

        var description = StreamDescription.Parse(json, contents.Budget);
        contents.Description = description;
        contents.PageSize = description.PageSize;
        foreach (var section in contents.FullSections)
        {
            var described = description.Find(section.Header.IdStr, section.Header.InstanceId)
                ?? throw WalkContext.Failure(StreamError.DescriptionMismatch, section.Header, section.Header.Offset, "The description does not have this device");
            if (described.ByteLength != section.BodyLength)
            {
                throw WalkContext.Failure(StreamError.DescriptionMismatch, section.Header, section.Header.BodyOffset,
                    $"The body has {section.BodyLength:N0} bytes and is described with {described.ByteLength:N0}" + (known is null ? "" : " at the end of the file"));
            }
        }
    }

    private static void ReadChannel(StreamContents contents, FileStream file, StreamReadOptions options, TransferScope scope)
    {
        var channel = new ChannelContents(file.Name, contents);
        contents.Channels.Add(channel);
        try
        {
            channel.Length = StreamPump.Run(file, new MultifdChannelWalker(channel, contents.PageSize), scope);
        }
        catch (StreamException e)
        {
            channel.Failure = e;
            contents.Failure ??= new StreamException(e.Reason, $"{Path.GetFileName(file.Name)}: {e.Message}", e) { ByteOffset = e.ByteOffset, Target = file.Name };
        }
    }

    /// <summary>The JSON of the description as QEMU wrote it.</summary>
    internal static string DescriptionText(StreamContents contents)
        => contents.DescriptionJson is { } json ? Encoding.UTF8.GetString(json)
            : throw new StreamException(StreamError.NoDescription, $"The stream '{contents.Name}' has no description.");
}
