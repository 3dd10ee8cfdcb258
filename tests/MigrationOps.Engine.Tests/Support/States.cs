using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>State files as the writer makes them.</summary>
internal static class States
{
    internal static byte[] RandomBytes(int count, int seed = 7)
    {
        byte[] bytes = new byte[count];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    /// <summary>The bytes of a state whose data comes in these pieces.</summary>
    internal static byte[] Container(IEnumerable<byte[]> pieces, IReadOnlyDictionary<string, byte[]>? parts = null,
        bool hash = true, DeviceStateKind kind = DeviceStateKind.VhostUser)
    {
        using var output = new MemoryStream();
        Write(output, pieces, parts, raw: false, hash, kind);
        return output.ToArray();
    }

    /// <summary>Writes a state file and its manifest, and gives the manifest.</summary>
    internal static StateManifest Save(string path, byte[] data, bool raw = false, bool hash = true,
        IReadOnlyDictionary<string, byte[]>? parts = null, DeviceStateKind kind = DeviceStateKind.VhostUser)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var file = AtomicFile.Create(path, scope);
        var (digest, header, sizes) = Write(file.Stream, [data], parts, raw, hash, kind);
        var manifest = new StateManifest
        {
            Kind = kind,
            Id = raw ? null : header.Id,
            Raw = raw,
            Device = "embedded (pid 1, uid 0)",
            RawBytes = digest.Bytes,
            Chunks = digest.Chunks,
            Sha256 = digest.Sha256,
            Parts = sizes,
            StartedAt = DateTimeOffset.UnixEpoch,
            FinishedAt = DateTimeOffset.UnixEpoch,
        };
        manifest.CommitWith(file, scope);
        return manifest;
    }

    internal static StateFileVerification Verify(string path, bool raw = false, bool requireManifest = true,
        DeviceStateKind? kind = DeviceStateKind.VhostUser)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        return StateFile.Verify(path, kind, raw, requireManifest, scope);
    }

    /// <summary>The reason for which a file is not accepted.</summary>
    internal static StateFileException Rejected(string path, bool raw = false, bool requireManifest = true,
        DeviceStateKind? kind = DeviceStateKind.VhostUser)
    {
        var verification = Verify(path, raw, requireManifest, kind);
        Assert.False(verification.Report.Passed);
        var failure = Assert.IsType<StateFileException>(verification.Failure);
        Assert.Equal("StateFile" + failure.Reason, failure.ErrorId);
        var failed = verification.Report.Checks.First(check => !check.Passed);
        Assert.Equal(failure.Message, failed.Detail);
        Assert.Equal(failure.RecommendedAction, failed.RecommendedAction);
        Assert.NotEmpty(failure.RecommendedAction);
        Assert.Contains(path, failure.Message);
        return failure;
    }

    private static (StateDigest Digest, StateHeader Header, Dictionary<string, long> Parts) Write(Stream output,
        IEnumerable<byte[]> pieces, IReadOnlyDictionary<string, byte[]>? parts, bool raw, bool hash, DeviceStateKind kind)
    {
        using var writer = new StateWriter(output, kind, raw, hash);
        foreach (byte[] piece in pieces)
        {
            writer.WriteData(piece);
        }

        foreach (var (name, content) in parts ?? new Dictionary<string, byte[]>())
        {
            writer.WritePart(name, content);
        }

        return (writer.Complete(), writer.Header, writer.Parts);
    }
}
