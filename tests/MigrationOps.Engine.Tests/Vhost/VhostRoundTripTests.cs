using System.Runtime.InteropServices;
using System.Security.Cryptography;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vhost;

public sealed class VhostRoundTripTests : IDisposable
{
    private static readonly int[] Sizes = [0, 1, 4096, (1 << 20) - 1, (2 << 20) + 3];

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(false, false, true)]
    [InlineData(false, false, false)]
    [InlineData(false, true, true)]
    [InlineData(false, true, false)]
    [InlineData(true, false, true)]
    [InlineData(true, true, false)]
    public void A_state_goes_through_a_file_into_another_back_end(bool raw, bool own, bool hash)
    {
        foreach (int size in Sizes)
        {
            byte[] state = States.RandomBytes(size);
            var target = new MemoryBackendState(new byte[] { 9, 9 });
            using var a = Transfers.Backend(_folder["a"], new MemoryBackendState(state), ownDescriptor: own);
            using var b = Transfers.Backend(_folder["b"], target, ownDescriptor: own);
            var saved = Transfers.Save(_folder["a"], new Endpoint.File(_folder["f"]), raw: raw, hash: hash);
            Assert.Equal((size, hash ? Hash(state) : null, true), ((int)saved.Bytes, saved.Sha256, saved.Checked));
            Assert.Equal(raw ? 0 : size == 0 ? 0 : 1, Math.Min(saved.Chunks, 1));
            Assert.Equal(_folder["f"], saved.Path);
            Assert.True(States.Verify(_folder["f"]).Report.Passed);
            var loaded = Transfers.Load(_folder["b"], new Endpoint.File(_folder["f"]));
            Assert.Equal((size, Hash(state)), ((int)loaded.Bytes, loaded.Sha256));
            Assert.Equal(VhostTransferDirection.Load, loaded.Direction);
            Assert.Equal(state, target.Content.ToArray());
            Assert.Equal((size, size), ((int)a.BytesSaved, (int)b.BytesLoaded));
            if (raw)
            {
                Assert.Equal(state, File.ReadAllBytes(_folder["f"]));
            }

            Assert.Equal(["a", "b", "f", "f.json"], _folder.Entries);
        }
    }

    [Theory]
    [InlineData("unix", false, false, true)]
    [InlineData("unix", false, true, false)]
    [InlineData("unix", true, false, true)]
    [InlineData("tcp", false, false, true)]
    [InlineData("tcp", false, true, false)]
    [InlineData("tcp", true, true, false)]
    [InlineData("tls", false, false, true)]
    [InlineData("tls", false, true, false)]
    [InlineData("tls", true, false, false)]
    public void A_state_goes_over_a_connection_into_another_back_end(string kind, bool raw, bool own, bool hash)
    {
        using var certificates = new TestCertificates();
        var security = kind == "tls" ? new TransportSecurity(certificates.WriteBoth(_folder["x509"])) : TransportSecurity.Default;
        Endpoint endpoint = kind == "unix" ? new Endpoint.Unix(_folder["link"]) : new Endpoint.Tcp("127.0.0.1", 0);
        using var scope = new TransferScope(Waiting.Patience);
        foreach (int size in Sizes)
        {
            byte[] state = States.RandomBytes(size);
            var target = new MemoryBackendState(new byte[] { 9, 9 });
            using var a = Transfers.Backend(_folder["a"], new MemoryBackendState(state), ownDescriptor: own);
            using var b = Transfers.Backend(_folder["b"], target, ownDescriptor: own);
            var receiving = Transfers.Receive(
                Transfers.Options(_folder["b"], endpoint, raw) with { Security = security }, scope, out var listening);
            var saved = VhostStateSaver.Save(Transfers.Options(_folder["a"], listening, raw, hash) with { Security = security }, scope);
            var loaded = receiving.Result("the receiver");
            Assert.Equal((size, hash ? Hash(state) : null), ((int)saved.Bytes, saved.Sha256));
            Assert.Equal((size, Hash(state)), ((int)loaded.Bytes, loaded.Sha256));
            Assert.Equal((listening.ToString(), listening.ToString()), (saved.Uri, loaded.Uri));
            Assert.Equal(state, target.Content.ToArray());
            Assert.DoesNotContain("link", _folder.Entries);
        }
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void A_state_goes_through_a_pipe_that_is_given_by_number(bool raw, bool own)
    {
        foreach (int size in Sizes)
        {
            byte[] state = States.RandomBytes(size);
            var target = new MemoryBackendState(new byte[] { 9, 9 });
            using var a = Transfers.Backend(_folder["a"], new MemoryBackendState(state), ownDescriptor: own);
            using var b = Transfers.Backend(_folder["b"], target, ownDescriptor: own);
            var (read, write) = Pipe.Create();
            using (read)
            {
                var loading = Waiting.OnThread(() => Transfers.Load(_folder["b"], Number(read), raw: raw));
                using (write)
                {
                    Assert.Equal(size, Transfers.Save(_folder["a"], Number(write), raw: raw, hash: false).Bytes);
                }

                Assert.Equal(size, loading.Result("the load").Bytes);
            }

            Assert.Equal(state, target.Content.ToArray());
        }
    }

    [Fact]
    public void A_state_goes_through_a_socket_that_is_given_by_number_and_is_confirmed()
    {
        byte[] state = States.RandomBytes(100_000);
        var target = new MemoryBackendState(default);
        using var a = Transfers.Backend(_folder["a"], new MemoryBackendState(state));
        using var b = Transfers.Backend(_folder["b"], target);
        using var pair = new UnixPair();
        var loading = Waiting.OnThread(() => Transfers.Load(_folder["b"], Number(pair.B.Handle)));
        Assert.Equal(100_000, Transfers.Save(_folder["a"], Number(pair.A.Handle)).Bytes);
        Assert.Equal(100_000, loading.Result("the load").Bytes);
        Assert.Equal(state, target.Content.ToArray());
    }

    [Fact]
    public void A_state_is_written_to_a_file_that_is_given_by_number_and_read_from_it()
    {
        byte[] state = States.RandomBytes(100_000);
        var target = new MemoryBackendState(default);
        using var a = Transfers.Backend(_folder["a"], new MemoryBackendState(state));
        using var b = Transfers.Backend(_folder["b"], target);
        using var file = File.OpenHandle(_folder["f"], FileMode.Create, FileAccess.ReadWrite);
        Transfers.Save(_folder["a"], Number(file));
        Lseek.Seek(file, 0, SeekOrigin.Begin, "f");
        Transfers.Load(_folder["b"], Number(file));
        Assert.Equal(state, target.Content.ToArray());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_back_end_that_closes_its_end_after_the_last_byte_has_taken_all_of_a_bare_state(bool hash)
    {
        var (read, write) = Pipe.Create();
        using var backend = new ScriptedBackend(_folder["b"], session =>
        {
            using (var channel = session.AcceptTransfer())
            {
                byte[] all = new byte[3];
                Assert.Equal(3, FdIo.Read(channel, all));
            }

            // Only now the source ends, and the front-end finds a channel without a reader.
            write.Dispose();
            session.ServeUntil(VhostUserRequest.None);
        });
        using (read)
        {
            FdIo.Write(write, [1, 2, 3]);
            using var scope = new TransferScope(Waiting.Patience);
            var loaded = VhostStateLoader.Load(Transfers.Options(_folder["b"], Number(read), raw: true, hash: hash), scope);
            Assert.Equal((3L, true), (loaded.Bytes, loaded.Checked));
        }

        backend.Join();
    }

    [Fact]
    public void A_state_behind_an_offset_in_a_file_is_loaded_from_there()
    {
        byte[] container = States.Container([[1, 2, 3]]);
        File.WriteAllBytes(_folder["f"], [.. new byte[100], .. container]);
        var target = new MemoryBackendState(default);
        using var b = Transfers.Backend(_folder["b"], target);
        Transfers.Load(_folder["b"], new Endpoint.File(_folder["f"], 100));
        Assert.Equal(new byte[] { 1, 2, 3 }, target.Content.ToArray());
        var e = Assert.Throws<WireException>(() => Transfers.Save(_folder["b"], new Endpoint.File(_folder["g"], 100)));
        Assert.Equal(WireError.UnsupportedEndpoint, e.Reason);
    }

    [Fact]
    public void A_long_state_is_reported_while_it_moves()
    {
        const long Size = 40L << 20;
        using var a = Transfers.Backend(_folder["a"], new PatternBackendState(Size));
        foreach (bool hash in new[] { true, false })
        {
            var seen = new List<(long Bytes, long? Total)>();
            using var scope = new TransferScope(Waiting.Patience);
            var options = Transfers.Options(_folder["a"], new Endpoint.File(_folder["f"]), hash: hash) with
            {
                Progress = (bytes, total) => seen.Add((bytes, total)),
            };
            Assert.Equal(Size, VhostStateSaver.Save(options, scope).Bytes);
            Assert.True(seen.Count > 5);
            Assert.Equal(seen.Order().Distinct(), seen);
            Assert.Equal((Size, (long?)null), seen[^1]);
        }

        var loads = new List<(long Bytes, long? Total)>();
        using var loadScope = new TransferScope(Waiting.Patience);
        VhostStateLoader.Load(Transfers.Options(_folder["a"], new Endpoint.File(_folder["f"])) with
        {
            Progress = (bytes, total) => loads.Add((bytes, total)),
        }, loadScope);
        Assert.Equal((Size, (long?)Size), loads[^1]);
    }

    [Fact]
    public void The_manifest_says_where_a_state_came_from()
    {
        using var a = Transfers.Backend(_folder["a"], new MemoryBackendState(new byte[3]));
        var saved = Transfers.Save(_folder["a"], new Endpoint.File(_folder["f"]));
        var manifest = StateManifest.Read(_folder["f"]);
        Assert.Equal(DeviceStateKind.VhostUser, manifest.Kind);
        Assert.Equal("unix:" + _folder["a"], manifest.Source);
        Assert.Contains($"pid {Environment.ProcessId}", manifest.Device);
        Assert.Equal(["PROTOCOL_FEATURES", "VERSION_1"], manifest.Features);
        Assert.Equal(["MQ", "REPLY_ACK", "DEVICE_STATE"], manifest.ProtocolFeatures);
        Assert.Equal((3L, 1L, saved.Sha256), (manifest.RawBytes, manifest.Chunks, manifest.Sha256));
        Assert.InRange(manifest.FinishedAt, manifest.StartedAt, DateTimeOffset.UtcNow);
    }

    private static Endpoint.Fd Number(SafeHandle handle) => new((int)handle.DangerousGetHandle());

    private static string Hash(byte[] data) => Convert.ToHexStringLower(SHA256.HashData(data));
}
