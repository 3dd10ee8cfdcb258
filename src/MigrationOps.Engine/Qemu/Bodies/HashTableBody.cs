using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// Sections of "spapr/htab", the page table of a pseries guest: a word that is the table's size in the first section, -1 where
/// the guest has no such table, and 0 before runs of entries, whose last is empty.
/// </summary>
internal sealed class HashTableBody(WalkContext context) : ISectionBody
{
    private const int EntryLength = 16;

    private bool _inRuns;
    private int _dataLeft;

    public bool Read(StreamSection section, ref WireReader reader, bool last)
    {
        while (true)
        {
            int count = Math.Min(_dataLeft, reader.Remaining);
            context.Pass(section, ref reader, count);
            _dataLeft -= count;
            var r = reader;
            if (_dataLeft > 0 || !r.TryReadUInt32(out uint word))
            {
                return false;
            }

            if (!_inRuns)
            {
                context.Pass(section, ref reader, sizeof(uint));
                if (word != 0)
                {
                    return true;
                }

                _inRuns = true;
                continue;
            }

            if (!r.TryReadUInt16(out ushort valid) || !r.TryReadUInt16(out ushort invalid))
            {
                return false;
            }

            context.Pass(section, ref reader, sizeof(uint) + (2 * sizeof(ushort)));
            if (word == 0 && valid == 0 && invalid == 0)
            {
                _inRuns = false;
                return true;
            }

            _dataLeft = valid * EntryLength;
        }
    }
}
