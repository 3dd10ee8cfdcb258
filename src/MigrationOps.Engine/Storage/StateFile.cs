using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Storage;

/// <summary>What a verification of a state file found out.</summary>
/// <param name="Report">The named checks.</param>
/// <param name="Failure">The first failure; null if the file passed.</param>
/// <param name="Header">The header; null for bare bytes or a file without a readable one.</param>
/// <param name="Manifest">The manifest, if there is a readable one.</param>
/// <param name="Digest">Totals of the data, if it could be read to its end.</param>
public sealed record StateFileVerification(
    DeviceStateReport Report, MigrationOpsException? Failure, StateHeader? Header, StateManifest? Manifest, StateDigest? Digest);

/// <summary>State files on disk: opened for reading, and verified.</summary>
public static class StateFile
{
    /// <summary>Opens a file for reading; the caller disposes the stream.</summary>
    /// <exception cref="StateFileException"><see cref="StateFileError.NotFound"/> or <see cref="StateFileError.NotAFile"/>.</exception>
    /// <exception cref="WireException">It cannot be opened.</exception>
    internal static FdStream OpenRead(string path, TransferScope scope)
    {
        try
        {
            // Asked first, because opening a FIFO waits for its writer, out of reach of deadline and cancellation.
            if (FileKinds.Of(path) != FileKind.Regular)
            {
                throw new StateFileException(StateFileError.NotAFile, $"'{path}' is not a regular file.") { Target = path };
            }

            return new FdStream(File.OpenHandle(path, options: FileOptions.SequentialScan), FileAccess.Read, scope, path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException or WireException { Reason: WireError.NotFound })
        {
            throw new StateFileException(StateFileError.NotFound, $"The state file '{path}' does not exist.", e) { Target = path };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new WireException(
                e is UnauthorizedAccessException ? WireError.AccessDenied : WireError.InputOutput,
                $"'{path}' cannot be read: {e.Message.TrimEnd('.')}.", e)
            { Target = path };
        }
    }

    /// <summary>
    /// Verifies a state file as a whole: every byte of it is read. The manifest alone is never trusted; what it says is
    /// compared with what the file holds.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="kind">The kind that is wanted, or null for any.</param>
    /// <param name="raw">True for bare bytes; a manifest that says so has the same effect.</param>
    /// <param name="requireManifest">False to pass a file whose manifest is missing.</param>
    /// <param name="scope">Cancellation.</param>
    /// <param name="progress">Called with the bytes of data so far.</param>
    public static StateFileVerification Verify(string path, DeviceStateKind? kind, bool raw, bool requireManifest, TransferScope scope,
        Action<long>? progress = null)
    {
        using var file = OpenRead(path, scope);
        return Verify(file, path, kind, raw, requireManifest, scope, progress);
    }

    /// <summary>Verifies a state file that is open, from its current position, so that what was verified is what is used.</summary>
    /// <inheritdoc cref="Verify(string, DeviceStateKind?, bool, bool, TransferScope, Action{long}?)"/>
    internal static StateFileVerification Verify(FdStream file, string path, DeviceStateKind? kind, bool raw, bool requireManifest,
        TransferScope scope, Action<long>? progress = null)
    {
        ArgumentNullException.ThrowIfNull(scope);
        var run = new Verification(path, kind);
        run.ReadManifest(requireManifest);
        run.ReadData(file, raw || run.Manifest is { Raw: true }, scope, progress);
        run.Compare();
        return new StateFileVerification(new DeviceStateReport(path, run.Checks), run.Failure, run.Header, run.Manifest, run.Digest);
    }

    /// <summary>Verifies a state file that has no name yet, with the manifest that came with it.</summary>
    /// <param name="file">The file, from its current position.</param>
    /// <param name="path">What errors call it.</param>
    /// <param name="manifest">Its manifest, or null.</param>
    /// <param name="scope">Cancellation.</param>
    /// <param name="parts">Names and sizes of the parts behind the data.</param>
    internal static StateFileVerification Verify(FdStream file, string path, StateManifest? manifest, TransferScope scope, out Dictionary<string, long> parts)
    {
        var run = new Verification(path, null) { Manifest = manifest };
        run.ReadData(file, raw: false, scope, null);
        run.Compare();
        parts = run.PartSizes;
        return new StateFileVerification(new DeviceStateReport(path, run.Checks), run.Failure, run.Header, run.Manifest, run.Digest);
    }

    /// <summary>The report of a verification, for a file of any kind; a file that cannot be opened is a failed check.</summary>
    /// <param name="path">The file.</param>
    /// <param name="raw">True for bare bytes.</param>
    /// <param name="expectedSha256">The SHA-256 that the data must have, or null.</param>
    /// <param name="scope">Cancellation.</param>
    public static DeviceStateReport Test(string path, bool raw, string? expectedSha256, TransferScope scope)
    {
        StateFileVerification verification;
        try
        {
            verification = Verify(path, kind: null, raw, requireManifest: true, scope);
        }
        catch (MigrationOpsException e)
        {
            return new DeviceStateReport(path, [DeviceStateCheck.FromFailure("Open", e)]);
        }

        return expectedSha256 is null || verification.Digest is not { } digest
            ? verification.Report
            : new DeviceStateReport(path, [.. verification.Report.Checks, ExpectedDigest(path, expectedSha256, digest.Sha256!)]);
    }

    private static DeviceStateCheck ExpectedDigest(string path, string expected, string actual)
        => string.Equals(expected, actual, StringComparison.OrdinalIgnoreCase)
            ? new DeviceStateCheck("ExpectedSha256", true, "it is the expected state")
            : DeviceStateCheck.FromFailure("ExpectedSha256", new StateFileException(StateFileError.DigestMismatch,
                $"'{path}' is not the expected state: its SHA-256 is {actual}, expected {expected}."));

    private sealed class Verification(string path, DeviceStateKind? kind)
    {
        private Dictionary<string, byte[]> _parts = [];

        internal List<DeviceStateCheck> Checks { get; } = [];

        internal MigrationOpsException? Failure { get; private set; }

        internal StateHeader? Header { get; private set; }

        internal StateManifest? Manifest { get; set; }

        internal Dictionary<string, long> PartSizes => _parts.ToDictionary(p => p.Key, p => (long)p.Value.Length);

        internal StateDigest? Digest { get; private set; }

        internal void ReadManifest(bool required)
        {
            try
            {
                Manifest = StateManifest.Read(path);
                Checks.Add(new DeviceStateCheck("Manifest", true, $"written by {Manifest.Tool} on {Manifest.Host} at {Manifest.FinishedAt:u}"));
            }
            catch (StateFileException e) when (e.Reason == StateFileError.ManifestMissing && !required)
            {
                Checks.Add(new DeviceStateCheck("Manifest", true, "there is none, and none was asked for"));
            }
            catch (StateFileException e)
            {
                Fail("Manifest", e);
            }
        }

        internal void ReadData(FdStream file, bool raw, TransferScope scope, Action<long>? progress)
        {
            try
            {
                using var reader = new StateReader(file, path, raw, computeHash: true, progress, scope.CancellationToken);
                reader.ReadHeader(kind);
                Header = reader.Header;
                reader.CopyData(Stream.Null);
                Digest = reader.ReadRest(expectEnd: true);
                _parts = reader.Parts;
                Pass("Format", raw ? "bare bytes" : $"{Header!.Value.Kind} state, version {StateHeader.Version}");
                Pass("Complete", $"{Digest.Value.Bytes:N0} bytes in {Digest.Value.Chunks:N0} chunks, {_parts.Count} parts");
                if (!raw)
                {
                    CheckStatedDigest(reader.StatedSha256, Digest.Value.Sha256!);
                }
            }
            catch (StateFileException e)
            {
                Fail(e.Reason switch
                {
                    StateFileError.Truncated => "Complete",
                    StateFileError.TrailingBytes => "NoTrailingBytes",
                    StateFileError.Damaged => "Digest",
                    _ => "Format",
                }, e);
            }
        }

        internal void Compare()
        {
            if (Manifest is null || Digest is not { } digest)
            {
                return;
            }

            if (Manifest.Raw)
            {
                CompareRaw(Manifest, digest);
                return;
            }

            string? difference =
                Manifest.Id != Header?.Id ? "its id is another one"
                : Manifest.Kind != Header?.Kind ? $"it describes a {Manifest.Kind} state"
                : Manifest.RawBytes != digest.Bytes ? $"it describes {Manifest.RawBytes:N0} bytes"
                : Manifest.Chunks != digest.Chunks ? $"it describes {Manifest.Chunks:N0} chunks"
                : Manifest.Sha256 is { } hash && hash != digest.Sha256 ? $"its SHA-256 is {hash}"
                : !SameParts(Manifest.Parts) ? "it describes other parts"
                : null;
            if (difference is null)
            {
                Pass("ManifestMatches", $"SHA-256 {digest.Sha256}");
            }
            else
            {
                Fail("ManifestMatches", new StateFileException(StateFileError.ManifestForeign,
                    $"The manifest of '{path}' describes another state: {difference}.")
                { Target = path });
            }
        }

        // Bare bytes carry nothing of their own, so the manifest is the only witness.
        private void CompareRaw(StateManifest manifest, StateDigest digest)
        {
            if (digest.Bytes < manifest.RawBytes)
            {
                Fail("Complete", Differs(StateFileError.Truncated, "truncated", digest));
            }
            else if (digest.Bytes > manifest.RawBytes)
            {
                Fail("NoTrailingBytes", Differs(StateFileError.TrailingBytes, "longer than it was", digest));
            }
            else if (manifest.Sha256 is { } hash && hash != digest.Sha256)
            {
                Fail("Digest", new StateFileException(StateFileError.Damaged,
                    $"'{path}' is damaged or another state: its SHA-256 is {digest.Sha256}, its manifest states {hash}.")
                { Target = path });
            }
            else
            {
                Pass("ManifestMatches", $"SHA-256 {digest.Sha256}");
            }
        }

        private void CheckStatedDigest(string? stated, string computed)
        {
            if (stated is not null)
            {
                Pass("Digest", $"SHA-256 {computed}");
            }
            else if (Manifest is { Sha256: null })
            {
                Pass("Digest", "saved without one, as the manifest says");
            }
            else
            {
                Fail("Digest", new StateFileException(StateFileError.Damaged,
                    $"'{path}' states no SHA-256, and no manifest says that it was saved without one.")
                { Target = path });
            }
        }

        private StateFileException Differs(StateFileError reason, string what, StateDigest digest)
            => new(reason, $"'{path}' is {what}: it has {digest.Bytes:N0} bytes, its manifest states {Manifest!.RawBytes:N0}.")
            {
                ByteOffset = Math.Min(digest.Bytes, Manifest.RawBytes),
                Target = path,
            };

        private bool SameParts(Dictionary<string, long> parts)
            => parts.Count == _parts.Count
                && parts.All(part => _parts.TryGetValue(part.Key, out byte[]? content) && content.Length == part.Value);

        private void Pass(string name, string detail) => Checks.Add(new DeviceStateCheck(name, true, detail));

        private void Fail(string name, MigrationOpsException failure)
        {
            Failure ??= failure;
            Checks.Add(DeviceStateCheck.FromFailure(name, failure));
        }
    }
}
