using MigrationOps.Engine.Devices;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.SaveVm;
using MigrationOps.Engine.Tests.Storage;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Tests.Vfio;
using MigrationOps.Engine.Tests.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Devices;

public sealed class DirectoryDeviceTests : IDisposable
{
    private static readonly DateTime Old = new(2020, 1, 2, 3, 4, 5, DateTimeKind.Utc);

    private readonly TestFolder _folder = new();

    private string Source => _folder["source"];

    private string Destination => _folder["destination"];

    public DirectoryDeviceTests() => Directory.CreateDirectory(Source);

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_tree_arrives_as_it_is_with_modes_times_links_and_empty_directories()
    {
        Put("a.txt", "hello");
        Put("dir/b.bin", new string('x', 1_000_000));
        Put("dir/deep/er/c", "");
        Directory.CreateDirectory(Path.Combine(Source, "empty"));
        File.CreateSymbolicLink(Path.Combine(Source, "link"), "dir/b.bin");
        File.CreateSymbolicLink(Path.Combine(Source, "dangling"), "/nowhere/at/all");
        Directory.CreateSymbolicLink(Path.Combine(Source, "dir/up"), "../dir");
        File.SetUnixFileMode(Path.Combine(Source, "a.txt"), UnixFileMode.UserRead | UnixFileMode.GroupRead | UnixFileMode.OtherExecute);
        File.SetLastWriteTimeUtc(Path.Combine(Source, "a.txt"), Old);
        File.SetUnixFileMode(Path.Combine(Source, "dir/deep"), UnixFileMode.UserRead | UnixFileMode.UserExecute);
        var result = Load(Send());
        Assert.Single(result.Devices);
        Assert.Equal(Listing(Source), Listing(Destination));
        Assert.Equal(Old, File.GetLastWriteTimeUtc(Path.Combine(Destination, "a.txt")));
        Assert.Equal(["destination", "source"], _folder.Entries);
        File.SetUnixFileMode(Path.Combine(Source, "dir/deep"), (UnixFileMode)0b111_000_000);
        File.SetUnixFileMode(Path.Combine(Destination, "dir/deep"), (UnixFileMode)0b111_000_000);
    }

    [Fact]
    public void What_changes_between_the_rounds_is_sent_again_and_what_does_not_is_not()
    {
        for (int i = 0; i < 20; i++)
        {
            Put($"f{i}", new string((char)('a' + i), 100_000));
        }

        Directory.CreateDirectory(Path.Combine(Source, "goes/away"));
        Put("goes/away/x", "1");
        Put("becomes-a-directory", "file");
        Put("renamed", "the same");
        Put("truncated", new string('t', 50_000));
        Put("same-time", "before");
        File.SetLastWriteTimeUtc(Path.Combine(Source, "same-time"), Old);
        int turns = 0;
        byte[] stream = Send(onTurn: () =>
        {
            if (++turns == 2)
            {
                Put("f3", "changed");
                Put("new", "new");
                Directory.Delete(Path.Combine(Source, "goes"), recursive: true);
                File.Delete(Path.Combine(Source, "becomes-a-directory"));
                Put("becomes-a-directory/y", "2");
                File.Move(Path.Combine(Source, "renamed"), Path.Combine(Source, "renamed-now"));
                Put("truncated", "t");
                Put("same-time", "after!");
                File.SetLastWriteTimeUtc(Path.Combine(Source, "same-time"), Old);
                File.SetUnixFileMode(Path.Combine(Source, "f5"), UnixFileMode.UserRead);
            }
        }, stop: () =>
        {
            Put("f4", "last word");
            File.Delete(Path.Combine(Source, "f6"));
            File.CreateSymbolicLink(Path.Combine(Source, "f6"), "f4");
        });
        Assert.True(turns > 2);
        Assert.InRange(stream.Length, 1_900_000, 2_500_000);
        Load(stream);
        Assert.Equal(Listing(Source), Listing(Destination));
    }

    [Fact]
    public void A_file_whose_time_alone_changed_is_not_sent_again()
    {
        Put("large", new string('x', 3_000_000));
        byte[] stream = Send(stop: () => File.SetLastWriteTimeUtc(Path.Combine(Source, "large"), Old));
        Assert.InRange(stream.Length, 3_000_000, 3_100_000);
        Load(stream);
        Assert.Equal(Old, File.GetLastWriteTimeUtc(Path.Combine(Destination, "large")));
    }

    [Fact]
    public void Patterns_choose_a_set_of_files_with_the_directories_that_they_are_in()
    {
        Put("a/b/keep.conf", "1");
        Put("a/b/other.log", "2");
        Put("c/d", "3");
        Load(Send(device: new DirectoryDevice(Source, "*.conf")));
        Assert.Equal(["a", "a/b", "a/b/keep.conf"], Listing(Destination).Select(line => line.Split(' ')[0]).Where(p => p != "."));
    }

    [Fact]
    public void A_large_tree_travels_under_a_bandwidth_limit_in_rounds()
    {
        for (int i = 0; i < 300; i++)
        {
            Put($"d{i % 7}/f{i}", new string('q', i * 10));
        }

        Load(Send(new SaveVmSourceOptions { MaxBandwidth = 2_000_000, DowntimeLimit = TimeSpan.FromMilliseconds(10), Turn = TimeSpan.FromMilliseconds(20) }));
        Assert.Equal(Listing(Source), Listing(Destination));
    }

    [Fact]
    public void A_change_after_the_stop_fails_the_migration()
    {
        Put("a", "1");
        using var device = new RestlessDevice(Source, () => Put("a", "2"));
        var failure = Assert.Throws<SaveVmException>(() => Send(device: device));
        Assert.Equal(DirectoryError.ChangedAfterStop, Assert.IsType<DirectoryException>(failure.InnerException).Reason);
    }

    [Fact]
    public void A_destination_that_holds_something_is_not_touched()
    {
        Put("a", "1");
        byte[] stream = Send();
        Directory.CreateDirectory(Destination);
        File.WriteAllText(Path.Combine(Destination, "mine"), "precious");
        Assert.Equal(DirectoryError.DestinationNotEmpty, Refused(stream));
        Assert.Equal(["mine"], Directory.EnumerateFileSystemEntries(Destination).Select(Path.GetFileName));
    }

    [Fact]
    public void An_empty_destination_is_taken_and_stays_empty_after_a_failure()
    {
        Put("a", new string('x', 10_000));
        byte[] stream = Send();
        Directory.CreateDirectory(Destination);
        Assert.ThrowsAny<MigrationOpsException>(() => Load(stream[..5000]));
        Assert.Empty(Directory.EnumerateFileSystemEntries(Destination));
        Load(stream);
        Assert.Equal(Listing(Source), Listing(Destination));
    }

    [Fact]
    public void A_stream_that_is_cut_anywhere_leaves_nothing()
    {
        Put("a", "123");
        Put("d/e", "4567");
        File.CreateSymbolicLink(Path.Combine(Source, "l"), "a");
        byte[] stream = Send();
        int end = stream.Length - DescriptionOf(stream);
        for (int length = 8; length < end; length++)
        {
            Assert.ThrowsAny<MigrationOpsException>(() => Load(stream[..length]));
            // What came whole before the end mark is in its place; less than that is not there at all.
            Assert.True(!Directory.Exists(Destination) || Listing(Destination).SequenceEqual(Listing(Source)), $"{length}");
            if (Directory.Exists(Destination))
            {
                Directory.Delete(Destination, recursive: true);
            }
        }
    }

    [Fact]
    public void What_cannot_travel_is_refused_before_anything_is_sent()
    {
        Put("ok", "1");
        using (var socket = new System.Net.Sockets.Socket(System.Net.Sockets.AddressFamily.Unix, System.Net.Sockets.SocketType.Stream, 0))
        {
            socket.Bind(new System.Net.Sockets.UnixDomainSocketEndPoint(Path.Combine(Source, "sock")));
            Assert.Equal(DirectoryError.UnsupportedFile, NotSent(new DirectoryDevice(Source)));
            Send(device: new DirectoryDevice(Source, "ok"));
        }

        Assert.Equal(DirectoryError.NotADirectory, NotSent(new DirectoryDevice(Path.Combine(Source, "ok"))));
        Assert.Equal(DirectoryError.NotADirectory, NotSent(new DirectoryDevice(Path.Combine(Source, "not-there"))));
    }

    [Fact]
    public void A_disk_that_fills_up_fails_the_migration_and_leaves_nothing()
        => SmallDisk.Run(typeof(DirectoryDeviceTests).FullName + "." + nameof(A_disk_that_fills_up_fails_the_migration_and_leaves_nothing), disk =>
        {
            Put("large", new string('x', 3_000_000));
            byte[] stream = Send();
            var failure = Assert.Throws<SaveVmException>(() => Load(stream, disk["destination"]));
            Assert.Equal(WireError.NoSpace, Assert.IsType<WireException>(failure.InnerException).Reason);
            Assert.Empty(disk.Entries);
        });

    internal static MigrationStreamTransfer Load(byte[] stream, string destination)
        => BrokenConnectionTests.Load(Migrations.Registry(("tree", new DirectoryDevice(destination))), stream);

    private MigrationStreamTransfer Load(byte[] stream) => Load(stream, Destination);

    private DirectoryError Refused(byte[] stream)
        => Assert.IsType<DirectoryException>(Assert.Throws<SaveVmException>(() => Load(stream)).InnerException).Reason;

    private DirectoryError NotSent(ISaveVmHandlers device)
    {
        using var output = new MemoryStream();
        var failure = Assert.Throws<SaveVmException>(() => Send(device: device, output: output));
        Assert.Equal(0, output.Length);
        return Assert.IsType<DirectoryException>(failure.InnerException).Reason;
    }

    private byte[] Send(SaveVmSourceOptions? options = null, ISaveVmHandlers? device = null, Action? onTurn = null, Action? stop = null, MemoryStream? output = null)
    {
        using var stream = new MemoryStream();
        using var scope = new TransferScope(TimeSpan.FromSeconds(30));
        options ??= new SaveVmSourceOptions
        {
            MaxBandwidth = onTurn is null ? null : 10_000_000,
            DowntimeLimit = TimeSpan.FromMilliseconds(1),
            Turn = TimeSpan.FromMilliseconds(20),
        };
        new SaveVmSource(Migrations.Registry(("tree", device ?? new DirectoryDevice(Source))), options with
        {
            OnProgress = (_, _) => onTurn?.Invoke(),
            StopDevice = stop,
        }).Run(_ => output ?? stream, scope);
        return stream.ToArray();
    }

    private void Put(string path, string content)
    {
        path = Path.Combine(Source, path);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, content);
    }

    // The JSON behind the end mark, its head and the mark itself.
    private static int DescriptionOf(byte[] stream)
        => stream.Length - stream.AsSpan().LastIndexOf("{\"page_size\""u8) + 5 + 1;

    private static string[] Listing(string root)
        => [.. Directory.EnumerateFileSystemEntries(root, "*", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0 })
            .Where(p => !Path.GetRelativePath(root, p).StartsWith("dir/up/", StringComparison.Ordinal))
            .Append(root).Select(p => Line(root, p)).Order(StringComparer.Ordinal)];

    private static string Line(string root, string path)
    {
        var info = new FileInfo(path);
        string what = info.LinkTarget is { } target ? "-> " + target
            : info.Attributes.HasFlag(FileAttributes.Directory) ? "directory"
            : $"{info.LastWriteTimeUtc.Ticks} {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(path)))}";
        return $"{Path.GetRelativePath(root, path)} {(info.LinkTarget is null ? info.UnixFileMode : 0)} {what}";
    }

    /// <summary>A directory that is written to while its last section is sent.</summary>
    private sealed class RestlessDevice(string path, Action write) : ISaveVmHandlers, IDisposable
    {
        private readonly DirectoryDevice _inner = new(path);

        public void SavePrepare(SaveVmContext context) => _inner.SavePrepare(context);

        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => _inner.SaveSetup(stream, context);

        public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context) => _inner.SaveLiveIterate(stream, context);

        public PendingBytes StatePendingExact(SaveVmContext context) => _inner.StatePendingExact(context);

        public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context)
            => _inner.SaveLiveCompletePrecopy(new Watched(stream, write), context);

        public void SaveCleanup(SaveVmContext context) => _inner.SaveCleanup(context);

        public void Dispose() => _inner.Dispose();

        private sealed class Watched(SaveVmSaveStream inner, Action write) : SaveVmSaveStream
        {
            public override long StreamOffset => inner.StreamOffset;

            public override long RemainingBudget => inner.RemainingBudget;

            // Asked between the first scan after the stop and the one that looks again.
            public override bool BudgetExceeded
            {
                get
                {
                    write();
                    return inner.BudgetExceeded;
                }
            }

            public override void Write(ReadOnlySpan<byte> buffer) => inner.Write(buffer);
        }
    }
}
