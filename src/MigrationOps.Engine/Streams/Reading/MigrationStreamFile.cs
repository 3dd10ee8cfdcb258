using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>How a stream is read.</summary>
internal sealed record StreamReadOptions
{
    /// <summary>Memory beyond what is exported.</summary>
    internal long MaxMemory { get; init; } = MemoryBudget.Default;

    /// <summary>True to keep the bodies of sections of a stream that can be read only once, so that they can be decoded.</summary>
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
        var contents = source.Refusal is not null ? Refused(source, options)
            : source.File is { } file ? new FileWalk(source, file, options, scope).Read()
            : ReadForward(source, options, scope);
        try
        {
            if (source.Libvirt is { IsPartial: true } && contents.Failure is null)
            {
                contents.Failure = new StreamException(StreamError.Truncated, $"libvirt had not finished the save image '{source.Name}'.") { Target = source.Name };
            }

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

    /// <summary>Contents without anything in them yet.</summary>
    internal static StreamContents NewContents(StreamSource source, StreamReadOptions options) => new(new MemoryBudget(options.MaxMemory))
    {
        Name = source.Name,
        Libvirt = source.Libvirt,
        Compression = source.Compression,
        BaseOffset = source.BaseOffset,
    };

    /// <summary>
    /// Holds what was walked against the description behind it. QEMU does not read descriptions: one that is of no use makes the
    /// stream harder to read, and no worse.
    /// </summary>
    /// <param name="contents">What was walked.</param>
    /// <param name="isPageSizeKnown">True if the stream itself showed the size of a page.</param>
    internal static void ReadDescription(StreamContents contents, bool isPageSizeKnown)
    {
        if (contents.DescriptionJson is not { } json)
        {
            return;
        }

        StreamDescription description;
        try
        {
            description = StreamDescription.Parse(json, contents.Budget);
        }
        catch (StreamException e) when (e.Reason != StreamError.LimitExceeded)
        {
            contents.DescriptionFailure = e;
            return;
        }

        contents.Description = description;
        if (!isPageSizeKnown && contents.PageSize != description.PageSize)
        {
            contents.SetPageSize(description.PageSize);
        }

        contents.DescriptionFailure = contents.PageSize != description.PageSize && contents.Ram.Exists(r => r.Received > 0)
            ? WalkContext.Failure(StreamError.DescriptionMismatch, null, contents.DescriptionOffset,
                $"The description names pages of {description.PageSize:N0} bytes, those of the stream have {contents.PageSize:N0}; the description is")
            : contents.FullSections.Select(s => Mismatch(description, s)).FirstOrDefault(e => e is not null);
    }

    private static StreamException? Mismatch(StreamDescription description, SectionContents section)
    {
        var described = description.Find(section.Header.IdStr, section.Header.InstanceId);
        return described is null
            ? WalkContext.Failure(StreamError.DescriptionMismatch, section.Header, section.Header.Offset, "The description does not have this device")
            : described.ByteLength != section.BodyLength
                ? WalkContext.Failure(StreamError.DescriptionMismatch, section.Header, section.Header.BodyOffset,
                    $"The body has {section.BodyLength:N0} bytes and is described with {described.ByteLength:N0}")
            : null;
    }

    private static StreamContents Refused(StreamSource source, StreamReadOptions options)
    {
        var contents = NewContents(source, options);
        contents.Failure = source.Refusal;
        return contents;
    }

    private static StreamContents ReadForward(StreamSource source, StreamReadOptions options, TransferScope scope)
    {
        var contents = NewContents(source, options);
        SpooledBytes? spool = options.KeepBodies || options.KeepAllBodies ? new SpooledBytes() : null;
        contents.Bytes = spool;
        var walker = new StreamWalker(new ContentsBuilder(contents, spool, options.KeepAllBodies) { Pages = options.Pages });
        try
        {
            contents.Length = StreamPump.Run(source.Forward!, walker, scope);
            ReadDescription(contents, walker.IsPageSizeKnown);
        }
        catch (StreamException e)
        {
            Fail(contents, walker, e);
        }
        catch
        {
            contents.Dispose();
            throw;
        }

        return contents;
    }

    /// <summary>Notes what ended a walk. Behind the EOF mark it is the description's fault, which QEMU does not read.</summary>
    internal static void Fail(StreamContents contents, StreamWalker walker, StreamException failure)
    {
        contents.Length = Math.Max(contents.Length, walker.Offset);
        if (walker.ReachedEof && failure.Reason is not (StreamError.LimitExceeded or StreamError.Decompression))
        {
            // Where the file ends inside it, nothing is missing that QEMU reads.
            contents.DescriptionFailure = failure.Reason == StreamError.Truncated
                ? new StreamException(StreamError.InvalidDescription, failure.Message, failure) { ByteOffset = failure.ByteOffset } : failure;
        }
        else
        {
            contents.Failure = failure;
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
