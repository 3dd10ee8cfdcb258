using System.Text;
using MigrationOps.Engine.Moving;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Moving;

/// <summary>The journal: durable lines, one writer, and what a killed writer leaves.</summary>
public sealed class MoveJournalTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private string Path => _folder["move.jsonl"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void What_is_written_is_read_again_and_only_its_owner_may()
    {
        using (var journal = MoveJournal.Create(Path))
        {
            journal.Append(Intent());
            journal.Append(new MoveRecord { Record = MoveRecordKind.Completed }, new MoveRecord { Record = MoveRecordKind.Commit });
        }

        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Path));
        var history = MoveHistory.Read(Path);
        Assert.Equal("web01", history.Intent.VM);
        Assert.Equal(Intent().Intent!.Source, history.Intent.Source);
        Assert.Equal((true, true, false, 0), (history.Completed, history.Committed, history.Ran, history.Unreadable));
        Assert.Equal(3, File.ReadAllLines(Path).Length);
    }

    [Fact]
    public void A_journal_is_written_by_one_and_read_by_all()
    {
        using (var journal = MoveJournal.Create(Path))
        {
            journal.Append(Intent());
            Assert.True(MoveJournal.IsInUse(Path));
            Assert.Equal(MoveError.JournalInUse, Assert.Throws<MoveException>(() => MoveJournal.Open(Path)).Reason);
            Assert.Equal("web01", MoveHistory.Read(Path).Intent.VM);
            Assert.Single(File.ReadAllLines(Path));
        }

        Assert.False(MoveJournal.IsInUse(Path));
        MoveJournal.Open(Path).Dispose();
    }

    [Fact]
    public void A_journal_that_is_there_is_not_begun_again()
    {
        MoveJournal.Create(Path).Dispose();
        Assert.Equal(MoveError.JournalUnusable, Assert.Throws<MoveException>(() => MoveJournal.Create(Path)).Reason);
    }

    [Fact]
    public void A_full_disk_is_told()
        => Assert.Equal(MoveError.JournalUnusable, Assert.Throws<MoveException>(() =>
        {
            using var journal = MoveJournal.Open("/dev/full");
            journal.Append(Intent());
        }).Reason);

    [Fact]
    public void A_commit_that_was_refused_is_none_and_one_that_may_have_been_written_is_one()
    {
        Assert.False(Read(MoveRecordKind.Commit, MoveRecordKind.Refused).Committed);
        Assert.True(Read(MoveRecordKind.Commit, MoveRecordKind.Refused, MoveRecordKind.Commit).Committed);
        Assert.False(Read(MoveRecordKind.Armed, MoveRecordKind.Abandoned).Committed);
    }

    [Fact]
    public void Cut_at_any_byte_it_says_no_less_than_what_was_done()
    {
        byte[] all = [.. new[] { Intent(), Of(MoveRecordKind.Armed), Of(MoveRecordKind.Completed), Of(MoveRecordKind.Commit), Of(MoveRecordKind.Running) }.SelectMany(record => record.Encode())];
        int firstEnd = Array.IndexOf(all, (byte)'\n');
        int commit = Encoding.UTF8.GetString(all).IndexOf("\"commit\"", StringComparison.Ordinal);
        for (int cut = firstEnd; cut <= all.Length; cut++)
        {
            File.WriteAllBytes(Path, all[..cut]);
            using (var again = MoveJournal.Open(Path))
            {
                again.Append(Of(MoveRecordKind.Done));
            }

            var history = MoveHistory.Read(Path);
            Assert.NotNull(history.End);
            Assert.True(history.Unreadable <= 1);

            // The line that was cut may have been the commit: it is taken for one.
            Assert.True(history.Committed || cut < commit, $"cut at {cut}");
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("hello\n")]
    [InlineData("{\"record\":\"armed\"}\n")]
    public void What_is_no_journal_is_named(string text)
    {
        File.WriteAllText(Path, text);
        Assert.Equal(MoveError.JournalInvalid, Assert.Throws<MoveException>(() => MoveHistory.Read(Path)).Reason);
    }

    [Fact]
    public void A_process_is_proven_dead_only_where_it_could_be_seen()
    {
        var here = new MoveHost("a", "m1", "b1", "pid:[1]");
        var side = new MoveSide("unix:/q", null, here, 10, 500, "10.0.2");
        Assert.Equal(ProcessProof.Alive, side.FindProcess(here, _ => ('S', 500)));
        Assert.Equal(ProcessProof.Dead, side.FindProcess(here, _ => null));
        Assert.Equal(ProcessProof.Dead, side.FindProcess(here, _ => ('S', 501)));
        Assert.Equal(ProcessProof.Dead, side.FindProcess(here, _ => ('Z', 500)));
        Assert.Equal(ProcessProof.Alive, side.FindProcess(here, _ => ('T', 500)));

        // Booted since; a clone of the machine; another machine; another container; no identity at all.
        Assert.Equal(ProcessProof.Dead, side.FindProcess(here with { BootId = "b2" }, _ => ('S', 500)));
        Assert.Equal(ProcessProof.Unknown, side.FindProcess(here with { BootId = "b2", Name = "z" }, _ => null));
        Assert.Equal(ProcessProof.Unknown, side.FindProcess(here with { MachineId = "m2" }, _ => null));
        Assert.Equal(ProcessProof.Unknown, side.FindProcess(here with { PidSpace = "pid:[2]" }, _ => null));
        Assert.Equal(ProcessProof.Unknown, (side with { Host = null }).FindProcess(here, _ => null));
        Assert.Equal(ProcessProof.Unknown, (side with { Pid = 0 }).FindProcess(here, _ => null));
    }

    internal static MoveRecord Of(MoveRecordKind kind) => new() { Record = kind };

    internal static MoveRecord Intent() => new()
    {
        Record = MoveRecordKind.Intent,
        Intent = new MoveIntent
        {
            Move = new Guid("11111111-2222-3333-4444-555555555555"),
            VM = "web01",
            Mode = QemuMigrationMode.Normal,
            Source = new MoveSide("unix:/run/a", "u", new MoveHost("h", "m", "b", "p"), 10, 500, "10.0.2"),
            Target = new MoveSide("tcp:kvm2:4444", "u", null, 0, null, "10.0.2"),
        },
    };

    private MoveHistory Read(params MoveRecordKind[] kinds)
        => MoveHistory.Parse([.. kinds.Select(Of).Prepend(Intent()).SelectMany(record => record.Encode())], Path);
}
