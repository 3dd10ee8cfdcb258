namespace MigrationOps.Engine.Moving;

/// <summary>What a journal says, read as a whole. It does no I/O but the reading of the file.</summary>
internal sealed record MoveHistory
{
    private const int LongestJournal = 16 * 1024 * 1024;

    /// <summary>What was to be moved.</summary>
    internal required MoveIntent Intent { get; init; }

    /// <summary>The lines that can be read, in order.</summary>
    internal required IReadOnlyList<MoveRecord> Records { get; init; }

    /// <summary>Lines that cannot be read: one at the end is what a killed process leaves.</summary>
    internal int Unreadable { get; init; }

    /// <summary>True if the target was made unable to start by itself.</summary>
    internal bool Armed => Has(MoveRecordKind.Armed);

    /// <summary>True if both sides had said that the target has everything: the source does not continue by itself.</summary>
    internal bool Completed => Has(MoveRecordKind.Completed) || Committed;

    /// <summary>
    /// True if the target may have been told to start. A line that cannot be read may have been the commit; after a refused commit it is
    /// as if there had been none.
    /// </summary>
    internal bool Committed => LastOf(MoveRecordKind.Commit) > LastOf(MoveRecordKind.Refused) || (Unreadable > 0 && !Has(MoveRecordKind.Abandoned));

    /// <summary>True if the target ran the VM.</summary>
    internal bool Ran => Has(MoveRecordKind.Running);

    /// <summary>True if the VM was given back to the source.</summary>
    internal bool Abandoned => Has(MoveRecordKind.Abandoned);

    /// <summary>The last line; null if the move has not ended.</summary>
    internal MoveRecord? End => Records.LastOrDefault(record => record.Record == MoveRecordKind.Done);

    /// <summary>Reads a journal.</summary>
    /// <exception cref="MoveException"><see cref="MoveError.JournalInvalid"/>, <see cref="MoveError.JournalUnusable"/>.</exception>
    internal static MoveHistory Read(string path)
    {
        try
        {
            using var file = new FileStream(path, new FileStreamOptions { Mode = FileMode.Open, Access = FileAccess.Read, Share = FileShare.ReadWrite });
            if (file.Length > LongestJournal)
            {
                throw new MoveException(MoveError.JournalInvalid, $"'{path}' has {file.Length:N0} bytes: more than a journal can have.") { Target = path };
            }

            byte[] bytes = new byte[file.Length];
            file.ReadExactly(bytes);
            return Parse(bytes, path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MoveException(MoveError.JournalUnusable, $"The journal '{path}' cannot be read: {e.Message}", e) { Target = path };
        }
    }

    /// <summary>The same from the file's bytes.</summary>
    internal static MoveHistory Parse(ReadOnlySpan<byte> bytes, string path)
    {
        var records = new List<MoveRecord>();
        int unreadable = 0;
        while (!bytes.IsEmpty)
        {
            int end = bytes.IndexOf((byte)'\n');
            var line = end < 0 ? bytes : bytes[..end];
            bytes = end < 0 ? default : bytes[(end + 1)..];
            if (line.Trim((byte)' ').IsEmpty)
            {
                continue;
            }

            // Without its end a line was not durable, and the step that it announces was not taken; to read it does no harm.
            if (MoveRecord.Parse(line) is { } record)
            {
                records.Add(record);
            }
            else
            {
                unreadable++;
            }
        }

        return records.FirstOrDefault() is { Record: MoveRecordKind.Intent, Intent: { } intent }
            ? new MoveHistory { Intent = intent, Records = records, Unreadable = unreadable }
            : throw new MoveException(MoveError.JournalInvalid, $"'{path}': expected the intent of a move in the first line, found {(records.Count == 0 ? "no record" : $"'{records[0].Record}'")}.") { Target = path };
    }

    private bool Has(MoveRecordKind kind) => LastOf(kind) >= 0;

    private int LastOf(MoveRecordKind kind)
    {
        for (int i = Records.Count - 1; i >= 0; i--)
        {
            if (Records[i].Record == kind)
            {
                return i;
            }
        }

        return -1;
    }
}
