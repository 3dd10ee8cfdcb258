using System.Text.Json.Nodes;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.SaveVm;

public sealed class AnalyzeMigrationTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Qemu_s_own_script_reads_what_the_source_driver_writes()
    {
        byte[] first = [0xde, 0xad, 0xbe, 0xef];
        byte[] second = [.. Enumerable.Range(0, 300).Select(i => (byte)i)];
        var registry = new SaveVmRegistry();
        registry.Register("ram", 0, 4, new TinyRam(), priority: 10);
        registry.Register("acme/nvram", SaveVmRegistry.AnyInstance, 2, new Whole(first));
        registry.Register("acme/nvram", SaveVmRegistry.AnyInstance, 2, new Whole(second));
        string path = Write(registry);
        var state = JsonNode.Parse(Script(path))!.AsObject();
        Assert.Equal(["ram (1)", "acme/nvram (2)", "acme/nvram (3)"], state.Select(p => p.Key));
        Assert.Equal(first, Data(state["acme/nvram (2)"]!));
        Assert.Equal(second, Data(state["acme/nvram (3)"]!));
        Assert.Contains("acme.ram", state["ram (1)"]!.ToJsonString(), StringComparison.Ordinal);
        var description = JsonNode.Parse(Script(path, "-d", "desc"))!;
        Assert.Equal(4096, (int)description["page_size"]!);
        Assert.Equal(2, description["devices"]!.AsArray().Count);
    }

    private static byte[] Data(JsonNode device)
        => Convert.FromHexString(((string)device["data"]!).Replace(" ", "", StringComparison.Ordinal));

    private string Write(SaveVmRegistry registry)
    {
        string path = _folder.File("our.stream");
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var file = File.Create(path);
        new SaveVmSource(registry, new SaveVmSourceOptions { MachineType = "none" }).Run(_ => file, scope);
        return path;
    }

    private static string Script(string path, params string[] options)
    {
        string script = Peers.RequireFile("share/qemu-scripts/analyze-migration.py");
        using var process = new PeerProcess(Peers.Require("python3"), [script, "-f", path, .. options]);
        Assert.True(process.WaitForExit() == 0, process.Output);
        return process.Output;
    }

    private sealed class Whole(byte[] state) : ISaveVmHandlers
    {
        public void SaveState(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteBytes(state);
    }

    /// <summary>RAM of one block with one page, in the words of QEMU's RAM sections.</summary>
    private sealed class TinyRam : ISaveVmHandlers
    {
        private const ulong MemorySize = 0x04;
        private const ulong Page = 0x08;
        private const ulong EndOfSection = 0x10;
        private const int PageSize = 4096;

        private int _left = 2 * PageSize;

        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context)
        {
            stream.WriteUInt64((ulong)_left | MemorySize);
            Name(stream);
            stream.WriteUInt64((ulong)_left);
            stream.WriteUInt64(EndOfSection);
        }

        public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
        {
            Put(stream);
            stream.WriteUInt64(EndOfSection);
            return _left == 0;
        }

        public PendingBytes StatePendingEstimate(SaveVmContext context) => new(_left);

        public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context)
        {
            while (_left > 0)
            {
                Put(stream);
            }

            stream.WriteUInt64(EndOfSection);
        }

        private static void Name(SaveVmSaveStream stream)
        {
            stream.WriteByte(8);
            stream.Write("acme.ram"u8);
        }

        private void Put(SaveVmSaveStream stream)
        {
            if (_left == 0)
            {
                return;
            }

            _left -= PageSize;
            stream.WriteUInt64((ulong)_left | Page);
            Name(stream);
            byte[] page = new byte[PageSize];
            page[0] = 42;
            stream.WriteBytes(page);
        }
    }
}
