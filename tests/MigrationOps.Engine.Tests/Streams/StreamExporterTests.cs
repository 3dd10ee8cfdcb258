using System.Security.Cryptography;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Streams;

public sealed class StreamExporterTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly TransferScope _scope = new(TimeSpan.FromSeconds(20));

    public void Dispose()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void A_virtiofsd_s_state_comes_out_of_a_stream_as_it_went_in()
    {
        var export = Assert.Single(Export("small.stream", "*vhost-user-fs", raw: true));
        Assert.Equal(StreamVectors.Read("small.backend-state.bin"), File.ReadAllBytes(export.Path));
        Assert.Equal(("vhost-user", 108L), (export.Kind, export.Bytes));
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(StreamVectors.Read("small.backend-state.bin"))), export.Sha256);
    }

    [Fact]
    public void An_exported_state_file_passes_verification()
    {
        var export = Assert.Single(Export("small.stream", "*vhost-user-fs"));
        var report = StateFile.Verify(export.Path, DeviceStateKind.VhostUser, raw: false, requireManifest: true, _scope).Report;
        Assert.True(report.Passed, report.ToString());
        Assert.EndsWith("vhost-user-fs.state", export.Path, StringComparison.Ordinal);
    }

    [Fact]
    public void A_vfio_device_s_state_is_its_data_without_markers()
    {
        byte[] stream = StreamVectors.Read("vfio-classic.main.stream");
        var export = Assert.Single(Export("vfio-classic.main.stream", "0000:00:04.0/vfio", raw: true));
        Assert.Equal("vfio", export.Kind);
        Assert.Equal([.. stream[(488840 + 16)..][..24], .. stream[(501240 + 16)..][..36]], File.ReadAllBytes(export.Path));
    }

    [Fact]
    public void A_vfio_device_s_state_is_put_together_from_the_main_stream_and_the_channels()
    {
        // The capture has precopy data in the main stream, and one packet of data and the config in the channels.
        string archive = StreamVectors.PathOf("vfio-multifd");
        var input = new MigrationStreamInput { Path = archive };
        Assert.True(MigrationStreams.Test(input).Passed, string.Join('\n', MigrationStreams.Test(input).Checks.Select(c => c.ToString())));
        var raw = Assert.Single(StreamExporter.Export(new StreamExportOptions { Input = input, Device = "*/vfio", Destination = _folder.Path, Raw = true }, _scope));
        Assert.Equal(60, raw.Bytes);
        var export = Assert.Single(StreamExporter.Export(new StreamExportOptions { Input = input, Device = "*/vfio", Destination = _folder.Path }, _scope));
        var verification = StateFile.Verify(export.Path, DeviceStateKind.Vfio, raw: false, requireManifest: true, _scope);
        Assert.True(verification.Report.Passed, verification.Report.ToString());
        Assert.Equal(4132, verification.Manifest!.Parts["vfio-config"]);
        Assert.Contains("vfio-section", verification.Manifest.Parts.Keys);
    }

    [Theory]
    [InlineData("1", "config state is missing")]
    [InlineData("2", "is missing")]
    public void A_missing_channel_is_named(string connection, string message)
    {
        string archive = Directory.CreateDirectory(_folder["archive"]).FullName;
        foreach (string file in Directory.GetFiles(StreamVectors.PathOf("vfio-multifd")).Where(f => !f.Contains($"conn{connection}.", StringComparison.Ordinal)))
        {
            File.Copy(file, Path.Combine(archive, Path.GetFileName(file)));
        }

        Assert.False(MigrationStreams.Test(new MigrationStreamInput { Path = archive }).Passed);
        var options = new StreamExportOptions { Input = new MigrationStreamInput { Path = archive }, Device = "*/vfio", Destination = _folder.Path };
        Assert.Contains(message, Assert.Throws<StreamException>(() => StreamExporter.Export(options, _scope)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Any_section_comes_out_raw()
    {
        var input = new MigrationStreamInput { Path = StreamVectors.PathOf("none-tcg.plain.stream") };
        var section = MigrationStreams.GetInfo(input).Devices.Single(d => d.IdStr == "globalstate");
        var export = Assert.Single(StreamExporter.Export(
            new StreamExportOptions { Input = input, Device = "globalstate", Destination = _folder.Path, Raw = true, WholeSection = true }, _scope));
        Assert.Equal(StreamVectors.Read("none-tcg.plain.stream")[(int)section.Offset..][..(int)section.Length], File.ReadAllBytes(export.Path));
    }

    [Fact]
    public void A_device_that_is_not_there_is_an_error_and_leaves_no_file()
    {
        var e = Assert.Throws<StreamException>(() => Export("small.stream", "*virtio-gpu"));
        Assert.Equal(StreamError.NotFound, e.Reason);
        Assert.Empty(Directory.GetFiles(_folder.Path));
    }

    [Fact]
    public void A_broken_chunk_list_is_named_and_leaves_no_file()
    {
        byte[] stream = StreamVectors.Read("small.stream");
        stream[0x4775e + 3]++;
        string path = _folder["broken.stream"];
        File.WriteAllBytes(path, stream);
        var options = new StreamExportOptions { Input = new MigrationStreamInput { Path = path }, Device = "*vhost-user-fs", Destination = _folder["out"] };
        var e = Assert.Throws<StreamException>(() => StreamExporter.Export(options, _scope));
        Assert.Equal(StreamError.InvalidChunks, e.Reason);
        Assert.Equal([path], Directory.GetFiles(_folder.Path));
        Assert.Contains(MigrationStreams.Test(options.Input).Checks, c => c is { Name: "BackendState", Passed: false });
    }

    private IReadOnlyList<MigrationStreamExport> Export(string vector, string device, bool raw = false) => StreamExporter.Export(
        new StreamExportOptions
        {
            Input = new MigrationStreamInput { Path = StreamVectors.PathOf(vector) },
            Device = device,
            Destination = _folder.Path,
            Raw = raw,
        },
        _scope);
}
