using MigrationOps.Engine.Native;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Walks a stream that can be read again. The description at the file's end tells where sections end, so that a damaged footer
/// is told from a missing one - if it is this stream's: a volume may hold an older state behind, or only a part of one. So a
/// walk that does not come out well is repeated without it, and then with the description that this walk has found.
/// </summary>
internal sealed class FileWalk(StreamSource source, FileInput file, StreamReadOptions options, TransferScope scope)
{
    // What a device's state may end with; a volume's rest is longer.
    private const int MinZeroRest = 4096;
    private const int TrailingLooked = 64 * 1024;

    private int _walks;

    internal StreamContents Read()
    {
        var known = DescriptionLocator.Find(file, new MemoryBudget(options.MaxMemory));
        var contents = Choose(known, out var chosen);
        if (options.Pages is null)
        {
            return contents;
        }

        // Pages are taken once, when it is known how the stream is to be walked.
        contents.Dispose();
        return Walk(chosen, options.Pages);
    }

    private StreamContents Choose(StreamDescription? known, out Way chosen)
    {
        chosen = new Way(known, file.Length);
        var first = Walk(chosen, null);
        if (IsGood(first) || first.Failure is { Reason: StreamError.LimitExceeded or StreamError.UnsupportedVersion })
        {
            return first;
        }

        var firstWay = chosen;
        var best = first;
        if (known is not null)
        {
            chosen = new Way(null, file.Length);
            best = ChooseBetter(first, Walk(chosen, null), ref chosen, firstWay);
        }

        if (!IsGood(best) && best is { ReachedEof: true, Description: { } own } && own != known)
        {
            var before = chosen;
            chosen = new Way(own, file.Length);
            best = ChooseBetter(best, Walk(chosen, null), ref chosen, before);
        }

        if (!best.HasFooters && (best.IsEndUncertain || best.Failure is not null) && best.DescriptionJson is null)
        {
            // Only the file's end shows where the last section ends: not with zeros behind it.
            long end = file.FindTailOfZeros(0, scope.CancellationToken);
            if (file.Length - end >= MinZeroRest)
            {
                var before = chosen;
                chosen = new Way(null, end + 1);
                best = ChooseBetter(best, Walk(chosen, null), ref chosen, before);
            }
        }

        return best;
    }

    private static bool IsGood(StreamContents contents) => contents is { Failure: null, DescriptionFailure: null, IsEndUncertain: false };

    // The later one if it got through where the earlier did not.
    private static StreamContents ChooseBetter(StreamContents earlier, StreamContents later, ref Way way, Way earlierWay)
    {
        bool isBetter = IsGood(later) || Rank(later) > Rank(earlier) || (Rank(later) == Rank(earlier) && later.TrailingBytes > earlier.TrailingBytes);
        (isBetter ? earlier : later).Dispose();
        way = isBetter ? way : earlierWay;
        return isBetter ? later : earlier;
    }

    private static int Rank(StreamContents contents)
        => contents.Failure is not null ? 0 : contents.DescriptionFailure is not null ? 1 : 2;

    private StreamContents Walk(Way way, RamImage? pages)
    {
        var contents = MigrationStreamFile.NewContents(source, options);
        try
        {
            contents.Bytes = new FileBytes(file.Handle, file.Start);
            var walker = new StreamWalker(new ContentsBuilder(contents, null, options.KeepAllBodies) { Pages = pages }, way.Description);
            contents.PageSize = walker.PageSize;
            try
            {
                StreamPump.Run(file, way.End, walker, scope, isAgain: _walks++ > 0);
                contents.Length = file.Length;
                NoteTrailing(contents, walker.Offset - contents.TrailingBytes);
                MigrationStreamFile.ReadDescription(contents, walker.IsPageSizeKnown);
            }
            catch (StreamException e)
            {
                MigrationStreamFile.Fail(contents, walker, e);
                contents.Length = Math.Max(contents.Length, walker.ReachedEof ? file.Length : 0);
                contents.Description ??= contents.DescriptionJson is null ? way.Description : null;
            }

            return contents;
        }
        catch
        {
            contents.Dispose();
            throw;
        }
    }

    // The rest is not read: its beginning tells what it is, and the file system where its data begins.
    private void NoteTrailing(StreamContents contents, long end)
    {
        contents.TrailingBytes = file.Length - end;
        if (contents.TrailingBytes == 0)
        {
            return;
        }

        long? data = Lseek.NextData(file.Handle, file.Start + end);
        var start = new byte[Math.Min(TrailingLooked, contents.TrailingBytes)];
        int got = file.Read(end, start);
        int other = start.AsSpan(0, got).IndexOfAnyExcept((byte)0);
        contents.TrailingKind = data is null ? "a hole without data"
            : other < 0 ? got == contents.TrailingBytes ? "all zero" : $"zero in the first {got:N0}, the others were not read"
            : start.AsSpan(other, got - other).StartsWith(StreamFormat.MagicBytes) ? $"an older or another stream starts at byte {end + other:N0}"
            : "they were not read";
    }

    /// <summary>How to walk the stream.</summary>
    /// <param name="Description">The description that tells where sections end, if one is known.</param>
    /// <param name="End">How many bytes to take.</param>
    private sealed record Way(StreamDescription? Description, long End);
}
