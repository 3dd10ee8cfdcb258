using System.Security.Cryptography;
using System.Text;
using MigrationOps.Engine.Devices;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.SaveVm;
using MigrationOps.Engine.Tests.Storage;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Tests.Vfio;
using MigrationOps.Engine.Tests.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Devices;

/// <summary>Sections of a directory that our source does not write.</summary>
public sealed class ForeignTreeTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string, string> Attacks => new()
    {
        { "../out", "UnsafePath" },
        { "/etc/out", "UnsafePath" },
        { "d/../../out", "UnsafePath" },
        { "d/./out", "UnsafePath" },
        { "d//out", "UnsafePath" },
        { "d/", "UnsafePath" },
        { "", "UnsafePath" },
        { "..", "UnsafePath" },
        { "nul\0here", "UnsafePath" },
        { "not-there/out", "UnsafePath" },
        { "link/out", "UnsafePath" },
        { "file/out", "UnsafePath" },
        { "d/link/out", "UnsafePath" },
        { "d", "InvalidRecord" },
        { "link", "InvalidRecord" },
    };

    [Theory]
    [MemberData(nameof(Attacks))]
    public void A_received_name_never_leads_out_of_the_destination(string path, string reason)
    {
        string outside = _folder["outside"];
        Directory.CreateDirectory(outside);
        var failure = Refused(w =>
        {
            Entry(w, TreeRecord.Directory, "");
            Entry(w, TreeRecord.Directory, "d");
            Link(w, "link", outside);
            Link(w, "d/link", "../..");
            Content(w, "file", "1");
            Content(w, path, "stolen");
        });
        Assert.Equal(reason, failure.Reason.ToString());
        Assert.Empty(Directory.EnumerateFileSystemEntries(outside));
        Assert.Equal(["outside"], _folder.Entries);
    }

    public static TheoryData<string, string> Breaches => new()
    {
        { "data without file", "InvalidRecord" },
        { "end without file", "InvalidRecord" },
        { "file inside file", "InvalidRecord" },
        { "unknown record", "InvalidRecord" },
        { "huge piece", "InvalidRecord" },
        { "attributes of nothing", "InvalidRecord" },
        { "delete of nothing", "InvalidRecord" },
        { "delete of the root", "InvalidRecord" },
        { "set-user-id", "InvalidRecord" },
        { "wrong hash", "Damaged" },
        { "wrong length", "Damaged" },
        { "fewer entries", "Incomplete" },
        { "open file at the end", "Incomplete" },
        { "record after the end", "InvalidRecord" },
    };

    [Theory]
    [MemberData(nameof(Breaches))]
    public void A_record_that_cannot_be_ends_the_migration_by_name(string what, string reason)
    {
        var failure = Refused(w =>
        {
            Entry(w, TreeRecord.Directory, "");
            switch (what)
            {
                case "data without file": w.Data([1]); break;
                case "end without file": w.FileEnd(0, new byte[32]); break;
                case "file inside file": Entry(w, TreeRecord.File, "a"); Entry(w, TreeRecord.File, "b"); break;
                case "unknown record": w.Raw([0x77]); break;
                case "huge piece": Entry(w, TreeRecord.File, "a"); w.Raw([3, 0x7f, 0, 0, 0]); break;
                case "attributes of nothing": Entry(w, TreeRecord.Attributes, "a"); break;
                case "delete of nothing": w.Delete("a"); break;
                case "delete of the root": w.Delete(""); break;
                case "set-user-id": Entry(w, TreeRecord.File, "a", 0x9ff); break;
                case "wrong hash": Entry(w, TreeRecord.File, "a"); w.Data([1]); w.FileEnd(1, new byte[32]); break;
                case "wrong length": Entry(w, TreeRecord.File, "a"); w.Data([1]); w.FileEnd(2, SHA256.HashData([1])); break;
                case "fewer entries": Content(w, "a", "1"); w.Complete(3, 1); break;
                case "open file at the end": Entry(w, TreeRecord.File, "a"); w.Complete(2, 0); break;
                case "record after the end": w.Complete(1, 0); Entry(w, TreeRecord.Directory, "late"); break;
                default: throw new ArgumentException(what);
            }
        });
        Assert.Equal(reason, failure.Reason.ToString());
        Assert.True(what == "record after the end" || _folder.Entries.Length == 0, string.Join(", ", _folder.Entries));
    }

    [Fact]
    public void A_section_of_something_else_is_no_directory()
    {
        var source = new SectionWriter(_ => { }) { Head = [1, 2, 3, 4, 5, 6, 7, 8] };
        var failure = Assert.IsType<DirectoryException>(Assert.Throws<SaveVmException>(() => Load(source)).InnerException);
        Assert.Equal(DirectoryError.InvalidRecord, failure.Reason);
        Assert.NotNull(failure.ByteOffset);
        Assert.Empty(_folder.Entries);
    }

    [Fact]
    public void A_tree_without_its_end_is_not_there_and_is_a_warning()
    {
        var result = Load(new SectionWriter(w => Content(w, "a", "1")));
        Assert.Contains("did not come to its end", Assert.Single(result.Warnings), StringComparison.Ordinal);
        Assert.Empty(_folder.Entries);
    }

    private DirectoryException Refused(Action<Records> write)
        => Assert.IsType<DirectoryException>(Assert.Throws<SaveVmException>(() => Load(new SectionWriter(write))).InnerException);

    private MigrationStreamTransfer Load(ISaveVmHandlers source)
    {
        using var stream = new MemoryStream();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        new SaveVmSource(Migrations.Registry(("tree", source)), new SaveVmSourceOptions()).Run(_ => stream, scope);
        return DirectoryDeviceTests.Load(stream.ToArray(), _folder["destination"]);
    }

    private static void Content(Records w, string path, string content)
    {
        Entry(w, TreeRecord.File, path);
        byte[] bytes = Encoding.UTF8.GetBytes(content);
        w.Data(bytes);
        w.FileEnd(bytes.Length, SHA256.HashData(bytes));
    }

    private static void Entry(Records w, TreeRecord type, string path, int mode = 0x1c0) => w.Entry(type, path, mode);

    private static void Link(Records w, string path, string target) => w.Link(path, target);

    private sealed class SectionWriter(Action<Records> write) : ISaveVmHandlers
    {
        internal byte[] Head { get; init; } = [0x4d, 0x4f, 0x44, 0x54, 0, 0, 0, 1];

        public void SaveState(SaveVmSaveStream stream, SaveVmContext context)
        {
            stream.WriteBytes(Head);
            var records = new Records(stream);
            write(records);
            records.Raw([0]);
        }
    }

    /// <summary>Writes whatever it is told to.</summary>
    private sealed class Records(SaveVmSaveStream stream)
    {
        internal void Raw(byte[] bytes) => stream.WriteBytes(bytes);

        internal void Entry(TreeRecord type, string path, int mode)
        {
            stream.WriteByte((byte)type);
            Text(path);
            stream.WriteUInt32((uint)mode);
            stream.WriteUInt64(0);
            if (type == TreeRecord.File)
            {
                stream.WriteUInt64(0);
            }
        }

        internal void Link(string path, string target)
        {
            stream.WriteByte((byte)TreeRecord.Link);
            Text(path);
            Text(target);
        }

        internal void Data(byte[] data) => new TreeRecordWriter(stream).Data(data);

        internal void FileEnd(long length, byte[] hash) => new TreeRecordWriter(stream).FileEnd(length, hash);

        internal void Delete(string path) => new TreeRecordWriter(stream).Delete(path);

        internal void Complete(long entries, long bytes) => new TreeRecordWriter(stream).Complete(entries, bytes);

        private void Text(string text)
        {
            byte[] bytes = Encoding.UTF8.GetBytes(text);
            stream.WriteUInt16((ushort)bytes.Length);
            stream.WriteBytes(bytes);
        }
    }
}
