using System.Text;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Storage;

public sealed class StateVerificationTests : IDisposable
{
    private static readonly byte[] Data = States.RandomBytes(23);
    private static readonly Dictionary<string, byte[]> Config = new() { ["config"] = [1, 2, 3, 4, 5] };

    private readonly TestFolder _folder = new();
    private readonly string _path;

    public StateVerificationTests() => _path = _folder["vfs.state"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_whole_file_with_its_manifest_passes_by_name()
    {
        var manifest = States.Save(_path, Data, parts: Config);
        var verification = States.Verify(_path);
        Assert.True(verification.Report.Passed);
        Assert.Null(verification.Failure);
        Assert.Equal(["Manifest", "Format", "Complete", "Digest", "ManifestMatches"], verification.Report.Checks.Select(c => c.Name));
        Assert.Equal(manifest.Sha256, verification.Digest!.Value.Sha256);
        Assert.Equal(manifest.Id, verification.Header!.Value.Id);
        Assert.Equal(["vfs.state", "vfs.state.json"], _folder.Entries);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Every_truncation_is_found_and_its_offset_told(bool withManifest)
    {
        States.Save(_path, Data, parts: Config);
        byte[] whole = File.ReadAllBytes(_path);
        if (!withManifest)
        {
            File.Delete(StateManifest.PathFor(_path));
        }

        for (int length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(_path, whole[..length]);
            var e = States.Rejected(_path, requireManifest: withManifest);
            Assert.Equal(StateFileError.Truncated, e.Reason);
            Assert.Equal(length, e.ByteOffset);
            Assert.Equal(FailureKind.CorruptData, e.Kind);
        }
    }

    [Fact]
    public void A_truncation_inside_a_chunk_says_what_is_missing()
    {
        States.Save(_path, Data);
        File.WriteAllBytes(_path, File.ReadAllBytes(_path)[..(36 + 17)]);
        Assert.Contains("chunk 1 at byte 32 announces 23 bytes, 17 follow", States.Rejected(_path).Message);
    }

    [Fact]
    public void Every_flipped_bit_of_the_file_is_found()
    {
        States.Save(_path, Data, parts: Config);
        byte[] whole = File.ReadAllBytes(_path);
        for (int bit = 0; bit < whole.Length * 8; bit++)
        {
            byte[] damaged = [.. whole];
            damaged[bit / 8] ^= (byte)(1 << (bit % 8));
            File.WriteAllBytes(_path, damaged);
            var verification = States.Verify(_path, kind: null);
            Assert.False(verification.Report.Passed, $"bit {bit % 8} of byte {bit / 8} was flipped, and no check failed");
            Assert.IsType<StateFileException>(verification.Failure);
        }
    }

    [Fact]
    public void Without_a_manifest_only_a_flip_in_the_random_id_goes_unseen()
    {
        States.Save(_path, Data, parts: Config);
        byte[] whole = File.ReadAllBytes(_path);
        File.Delete(StateManifest.PathFor(_path));
        for (int bit = 0; bit < whole.Length * 8; bit++)
        {
            byte[] damaged = [.. whole];
            damaged[bit / 8] ^= (byte)(1 << (bit % 8));
            File.WriteAllBytes(_path, damaged);
            Assert.Equal(bit / 8 is >= 16 and < 32, States.Verify(_path, requireManifest: false).Report.Passed);
        }
    }

    [Fact]
    public void Every_flipped_bit_of_the_manifest_is_found_or_changes_nothing_that_identifies_the_state()
    {
        var original = States.Save(_path, Data, parts: Config);
        string manifestPath = StateManifest.PathFor(_path);
        byte[] whole = File.ReadAllBytes(manifestPath);
        int found = 0;
        for (int bit = 0; bit < whole.Length * 8; bit++)
        {
            byte[] damaged = [.. whole];
            damaged[bit / 8] ^= (byte)(1 << (bit % 8));
            File.WriteAllBytes(manifestPath, damaged);
            if (Record.Exception(() => Identity(StateManifest.Read(_path))) is { } invalid)
            {
                Assert.Equal(StateFileError.ManifestInvalid, Assert.IsType<StateFileException>(invalid).Reason);
                found++;
            }
            else if (Identity(StateManifest.Read(_path)) != Identity(original))
            {
                var e = Assert.IsType<StateFileException>(States.Verify(_path, kind: null).Failure);
                Assert.Contains(e.Reason, new[] { StateFileError.ManifestForeign, StateFileError.Truncated,
                    StateFileError.TrailingBytes, StateFileError.Damaged });
                found++;
            }
        }

        Assert.True(found > whole.Length);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(5000)]
    public void Trailing_bytes_are_found_where_they_begin(int count)
    {
        States.Save(_path, Data);
        long length = new FileInfo(_path).Length;
        File.AppendAllText(_path, new string('\0', count));
        var e = States.Rejected(_path);
        Assert.Equal(StateFileError.TrailingBytes, e.Reason);
        Assert.Equal(length, e.ByteOffset);
        Assert.Contains(States.Verify(_path).Report.Checks, check => check is { Name: "NoTrailingBytes", Passed: false });
    }

    [Fact]
    public void A_missing_manifest_has_its_name_unless_none_is_asked_for()
    {
        States.Save(_path, Data);
        File.Delete(StateManifest.PathFor(_path));
        var e = States.Rejected(_path);
        Assert.Equal(StateFileError.ManifestMissing, e.Reason);
        Assert.Equal(FailureKind.NotFound, e.Kind);
        Assert.True(States.Verify(_path, requireManifest: false).Report.Passed);
    }

    [Fact]
    public void The_manifest_of_another_state_is_foreign_even_if_the_data_is_the_same()
    {
        States.Save(_path, Data);
        States.Save(_folder["other.state"], Data);
        File.Copy(_folder["other.state.json"], StateManifest.PathFor(_path), overwrite: true);
        var e = States.Rejected(_path);
        Assert.Equal(StateFileError.ManifestForeign, e.Reason);
        Assert.Contains("its id is another one", e.Message);
    }

    [Theory]
    [InlineData("kind", "\"Vfio\"", "it describes a Vfio state")]
    [InlineData("rawBytes", "24", "it describes 24 bytes")]
    [InlineData("chunks", "7", "it describes 7 chunks")]
    [InlineData("sha256", "\"00\"", "its SHA-256 is 00")]
    [InlineData("parts", "{}", "other parts")]
    [InlineData("parts", "{\"sha256\":32,\"config\":6}", "other parts")]
    [InlineData("id", "null", "its id is another one")]
    public void A_manifest_that_describes_something_else_is_foreign(string property, string value, string text)
    {
        States.Save(_path, Data, parts: Config);
        Edit(property, value);
        var e = States.Rejected(_path);
        Assert.Equal(StateFileError.ManifestForeign, e.Reason);
        Assert.Contains(text, e.Message);
    }

    [Theory]
    [InlineData("schemaVersion", "2")]
    [InlineData("kind", "\"Nonsense\"")]
    [InlineData("kind", null)]
    [InlineData("raw", "3")]
    [InlineData("rawBytes", null)]
    [InlineData("rawBytes", "-1")]
    [InlineData("chunks", "-1")]
    [InlineData("parts", "null")]
    [InlineData("features", "null")]
    [InlineData("protocolFeatures", "[null]")]
    [InlineData("host", "null")]
    [InlineData("tool", "null")]
    [InlineData("startedAt", "\"yesterday\"")]
    public void A_manifest_that_cannot_be_used_is_invalid(string property, string? value)
    {
        States.Save(_path, Data);
        Edit(property, value);
        Assert.Equal(StateFileError.ManifestInvalid, States.Rejected(_path).Reason);
    }

    [Theory]
    [InlineData("")]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("{\"kind\":")]
    [InlineData("not json")]
    public void A_manifest_of_nonsense_is_invalid(string text)
    {
        States.Save(_path, Data);
        File.WriteAllText(StateManifest.PathFor(_path), text);
        Assert.Equal(StateFileError.ManifestInvalid, States.Rejected(_path).Reason);
    }

    [Fact]
    public void A_manifest_that_is_huge_or_deep_is_invalid_and_not_read_into_memory()
    {
        States.Save(_path, Data);
        string manifestPath = StateManifest.PathFor(_path);
        File.WriteAllText(manifestPath, new string('[', 100_000));
        Assert.Equal(StateFileError.ManifestInvalid, States.Rejected(_path).Reason);
        using (var huge = File.OpenWrite(manifestPath))
        {
            huge.SetLength(8L << 30);
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Equal(StateFileError.ManifestInvalid, States.Rejected(_path).Reason);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 8 << 20);
    }

    [Fact]
    public void A_state_of_another_kind_is_refused_by_kind()
    {
        States.Save(_path, Data, kind: DeviceStateKind.Vfio);
        var e = States.Rejected(_path);
        Assert.Equal(StateFileError.WrongKind, e.Reason);
        Assert.Contains("Vfio", e.Message);
        Assert.True(States.Verify(_path, kind: null).Report.Passed);
    }

    [Theory]
    [InlineData(9, 2, "format version 2")]
    [InlineData(15, 1, "feature of the format (0x1)")]
    [InlineData(11, 77, "kind 77")]
    public void A_later_format_is_named_as_such(int at, byte value, string text)
    {
        States.Save(_path, Data);
        byte[] bytes = File.ReadAllBytes(_path);
        bytes[at] = value;
        File.WriteAllBytes(_path, bytes);
        File.Delete(StateManifest.PathFor(_path));
        var e = States.Rejected(_path, requireManifest: false, kind: null);
        Assert.Equal(StateFileError.UnsupportedVersion, e.Reason);
        Assert.Contains(text, e.Message);
        Assert.Equal(FailureKind.NotSupported, e.Kind);
    }

    [Theory]
    [InlineData("QEVM")]
    [InlineData("M")]
    [InlineData("MOPSTATF and more than a header has, to be sure of that")]
    public void A_foreign_file_is_no_state_file_unless_it_is_a_beginning_of_one(string content)
    {
        File.WriteAllText(_path, content);
        var e = States.Rejected(_path, requireManifest: false);
        Assert.Equal(content == "M" ? StateFileError.Truncated : StateFileError.NotAStateFile, e.Reason);
    }

    [Fact]
    public void A_file_without_digest_passes_only_if_its_manifest_says_so()
    {
        States.Save(_path, Data, hash: false);
        Assert.True(States.Verify(_path).Report.Passed);
        File.Delete(StateManifest.PathFor(_path));
        Assert.Equal(StateFileError.Damaged, States.Rejected(_path, requireManifest: false).Reason);
    }

    [Fact]
    public void Bare_bytes_are_judged_by_their_manifest()
    {
        var manifest = States.Save(_path, Data, raw: true);
        Assert.Equal(Data, File.ReadAllBytes(_path));
        var verification = States.Verify(_path);
        Assert.True(verification.Report.Passed);
        Assert.Null(verification.Header);
        Assert.Equal(manifest.Sha256, verification.Digest!.Value.Sha256);

        File.WriteAllBytes(_path, Data[..^3]);
        var truncated = States.Rejected(_path);
        Assert.Equal((StateFileError.Truncated, 20L), (truncated.Reason, truncated.ByteOffset));
        File.WriteAllBytes(_path, [.. Data, 1]);
        var trailing = States.Rejected(_path);
        Assert.Equal((StateFileError.TrailingBytes, 23L), (trailing.Reason, trailing.ByteOffset));
        for (int bit = 0; bit < Data.Length * 8; bit++)
        {
            byte[] damaged = [.. Data];
            damaged[bit / 8] ^= (byte)(1 << (bit % 8));
            File.WriteAllBytes(_path, damaged);
            Assert.Equal(StateFileError.Damaged, States.Rejected(_path).Reason);
        }
    }

    [Fact]
    public void Bare_bytes_without_a_manifest_are_taken_as_they_are_when_asked_for()
    {
        File.WriteAllBytes(_path, Data);
        Assert.True(States.Verify(_path, raw: true, requireManifest: false).Report.Passed);
        Assert.Equal(StateFileError.ManifestMissing, States.Rejected(_path, raw: true).Reason);
    }

    [Fact]
    public void A_file_that_is_not_there_or_not_a_file_is_an_error_and_no_hang()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        Assert.Equal(StateFileError.NotFound, Assert.Throws<StateFileException>(() => StateFile.OpenRead(_path, scope)).Reason);
        Assert.Equal(StateFileError.NotFound,
            Assert.Throws<StateFileException>(() => StateFile.OpenRead(_folder["absent/f"], scope)).Reason);
        Libc.MakeFifo(_folder["fifo"]);
        foreach (string path in new[] { _folder["fifo"], _folder.Path })
        {
            var open = Waiting.OnThread(() => Record.Exception(() => StateFile.OpenRead(path, scope)));
            var e = Assert.IsType<StateFileException>(open.Result($"opening '{path}'"));
            Assert.Equal(StateFileError.NotAFile, e.Reason);
            Assert.Contains(path, e.Message);
        }
    }

    [Fact]
    public void A_file_that_this_user_may_not_read_is_a_matter_of_permission()
    {
        States.Save(_path, Data);
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        File.SetUnixFileMode(_folder.Path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.OtherExecute);
        File.SetUnixFileMode(_path, UnixFileMode.None);
        var e = Assert.IsType<WireException>(Libc.RecordAsNobody(() => StateFile.OpenRead(_path, scope)));
        Assert.Equal(WireError.AccessDenied, e.Reason);
    }

    [Fact]
    public void The_manifest_is_text_that_other_programs_can_read()
    {
        var manifest = States.Save(_path, Data, parts: Config);
        var json = JsonNode.Parse(File.ReadAllText(StateManifest.PathFor(_path), Encoding.UTF8))!;
        Assert.Equal(1, (int)json["schemaVersion"]!);
        Assert.Equal("VhostUser", (string)json["kind"]!);
        Assert.Equal(manifest.Sha256, (string)json["sha256"]!);
        Assert.Equal(23, (int)json["rawBytes"]!);
        Assert.Equal(5, (int)json["parts"]!["config"]!);
        Assert.StartsWith("MigrationOps ", (string)json["tool"]!);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(StateManifest.PathFor(_path)));
    }

    private static string Identity(StateManifest m) => $"{m.Id} {m.Kind} {m.Raw} {m.RawBytes} {m.Chunks} {m.Sha256} "
        + string.Join(' ', m.Parts.Select(part => $"{part.Key}={part.Value}"));

    private void Edit(string property, string? value)
    {
        string path = StateManifest.PathFor(_path);
        var json = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        json.Remove(property);
        if (value is not null)
        {
            json[property] = JsonNode.Parse(value);
        }

        File.WriteAllText(path, json.ToJsonString());
    }
}
