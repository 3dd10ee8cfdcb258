using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Storage;

public sealed class AtomicFileTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly TransferScope _scope = new(TimeSpan.FromSeconds(60));

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void A_file_appears_on_commit_whole_and_for_its_owner_only()
    {
        using (var file = AtomicFile.Create(_folder["f"], _scope))
        {
            file.Stream.Write("content"u8);
            Assert.DoesNotContain("f", _folder.Entries);
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(_folder[Assert.Single(_folder.Entries)]));
            file.Commit();
        }

        Assert.Equal(["f"], _folder.Entries);
        Assert.Equal("content", File.ReadAllText(_folder["f"]));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(_folder["f"]));
    }

    [Fact]
    public void Without_commit_nothing_is_left_and_the_previous_file_is_as_it_was()
    {
        File.WriteAllText(_folder["f"], "previous");
        using (var file = AtomicFile.Create(_folder["f"], _scope))
        {
            file.Stream.Write("half of something"u8);
        }

        Assert.Equal(["f"], _folder.Entries);
        Assert.Equal("previous", File.ReadAllText(_folder["f"]));
    }

    [Fact]
    public void The_file_lives_as_long_as_it_is_used_whatever_the_collector_does()
    {
        using var file = AtomicFile.Create(_folder["f"], _scope);
        file.Stream.Write("first "u8);
        GC.Collect();
        GC.WaitForPendingFinalizers();
        file.Stream.Write("second"u8);
        file.Commit();
        Assert.Equal("first second", File.ReadAllText(_folder["f"]));
    }

    [Fact]
    public void A_linked_directory_is_followed_and_a_linked_file_is_replaced()
    {
        Directory.CreateDirectory(_folder["real"]);
        Directory.CreateSymbolicLink(_folder["link"], _folder["real"]);
        File.WriteAllText(_folder["elsewhere"], "not to be touched");
        File.CreateSymbolicLink(_folder["real/f"], _folder["elsewhere"]);
        using (var file = AtomicFile.Create(_folder["link/f"], _scope))
        {
            file.Stream.Write("new"u8);
            file.Commit();
        }

        Assert.Equal("new", File.ReadAllText(_folder["real/f"]));
        Assert.Equal("not to be touched", File.ReadAllText(_folder["elsewhere"]));
    }

    [Fact]
    public void A_directory_that_is_missing_or_in_the_way_is_an_error_that_names_the_file()
    {
        var missing = Assert.Throws<WireException>(() => AtomicFile.Create(_folder["absent/f"], _scope));
        Assert.Equal(WireError.NotFound, missing.Reason);
        Assert.Contains("the directory", missing.Message);
        Assert.DoesNotContain(".part", missing.Message);
        Assert.Contains(_folder["absent/f"], missing.Message);
        Directory.CreateDirectory(_folder["d"]);
        var inTheWay = Assert.Throws<WireException>(() => AtomicFile.Create(_folder["d"], _scope));
        Assert.Contains("is a directory", inTheWay.Message);
        File.WriteAllText(_folder["file"], "");
        Assert.Throws<WireException>(() => AtomicFile.Create(_folder["file/f"], _scope));
    }

    [Fact]
    public void A_directory_that_this_user_may_not_write_is_a_matter_of_permission()
    {
        File.SetUnixFileMode(_folder.Path, UnixFileMode.UserRead | UnixFileMode.UserExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute);
        var e = Assert.IsType<WireException>(Libc.RecordAsNobody(() => AtomicFile.Create(_folder["f"], _scope)));
        Assert.Equal(WireError.AccessDenied, e.Reason);
        Assert.DoesNotContain(".part", e.Message);
        File.SetUnixFileMode(_folder.Path, UnixFileMode.UserRead | UnixFileMode.UserExecute | UnixFileMode.UserWrite);
    }

    [Fact]
    public void A_commit_that_fails_is_our_own_failure_and_leaves_nothing()
    {
        using (var file = AtomicFile.Create(_folder["f"], _scope))
        {
            // Another process makes a directory of that name meanwhile, which a rename cannot replace.
            Directory.CreateDirectory(_folder["f"]);
            file.Stream.Write("content"u8);
            var e = Assert.Throws<WireException>(file.Commit);
            Assert.Contains(_folder["f"], e.Message);
        }

        Assert.Equal(["f"], _folder.Entries);
    }

    [Fact]
    public void A_name_as_long_as_the_system_allows_can_be_written()
    {
        string name = new('n', 255);
        using (var file = AtomicFile.Create(_folder[name], _scope))
        {
            file.Commit();
        }

        Assert.Equal([name], _folder.Entries);
    }

    [Fact]
    public void A_full_disk_is_named_leaves_nothing_and_keeps_the_previous_file()
        => SmallDisk.Run(typeof(AtomicFileTests).FullName + "." + nameof(A_full_disk_is_named_leaves_nothing_and_keeps_the_previous_file), disk =>
        {
            File.WriteAllText(disk["f"], "previous");
            using (var file = AtomicFile.Create(disk["f"], _scope))
            {
                var e = Assert.Throws<WireException>(() => file.Stream.Write(new byte[2 << 20]));
                Assert.Equal(WireError.NoSpace, e.Reason);
                Assert.Equal(disk["f"], e.Target);
                Assert.Contains("The previous file is as it was", e.RecommendedAction);
            }

            Assert.Equal(["f"], disk.Entries);
            Assert.Equal("previous", File.ReadAllText(disk["f"]));
        });

    [Fact]
    public void A_manifest_for_which_there_is_no_room_keeps_the_previous_state_and_its_manifest()
        => SmallDisk.Run(typeof(AtomicFileTests).FullName + "." + nameof(A_manifest_for_which_there_is_no_room_keeps_the_previous_state_and_its_manifest), disk =>
        {
            var previous = States.Save(disk["s"], [1, 2, 3]);
            using (var filler = File.Create(disk["filler"]))
            {
                filler.Write(new byte[(1 << 20) - (8 << 12)]);
            }

            // Room for some pages of data, and none for the manifest then.
            Assert.Throws<WireException>(() => SaveUntilFull(disk));
            Assert.Equal(["filler", "s", "s.json"], disk.Entries);
            Assert.Equal(previous.Id, States.Verify(disk["s"]).Header!.Value.Id);
            Assert.True(States.Verify(disk["s"]).Report.Passed);
        });

    private void SaveUntilFull(TestFolder disk)
    {
        using var file = AtomicFile.Create(disk["s"], _scope);
        using var writer = new StateWriter(file.Stream, DeviceStateKind.VhostUser, raw: false, computeHash: true);
        writer.WriteData(States.RandomBytes(100));
        var digest = writer.Complete();
        using (var rest = File.Create(disk["filler2"]))
        {
            Assert.ThrowsAny<IOException>(() => Enumerable.Range(0, 1 << 10).ToList().ForEach(_ =>
            {
                rest.Write(new byte[4096]);
                rest.Flush();
            }));
        }

        try
        {
            var manifest = new StateManifest
            {
                Kind = DeviceStateKind.VhostUser,
                Id = writer.Header.Id,
                Raw = false,
                RawBytes = digest.Bytes,
                Chunks = digest.Chunks,
                Sha256 = digest.Sha256,
                Parts = writer.Parts,
                StartedAt = DateTimeOffset.UnixEpoch,
                FinishedAt = DateTimeOffset.UnixEpoch,
            };
            manifest.CommitWith(file, _scope);
        }
        finally
        {
            File.Delete(disk["filler2"]);
        }
    }
}
