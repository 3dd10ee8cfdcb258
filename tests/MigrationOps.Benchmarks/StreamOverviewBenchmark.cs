using System.Buffers;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Benchmarks;

/// <summary>
/// The overview of a stream with 4 GiB of non-zero pages from the page cache, against QEMU's analyze-migration.py on the
/// same file, <c>cat</c>, and <c>cat | cat</c> for a pipe.
/// </summary>
internal sealed class StreamOverviewBenchmark : TransferBenchmark
{
    private const long RamSize = 4L << 30;
    private const int PageSize = 4096;

    internal override string Name => "stream-overview";

    internal override string Description => "what is in a migration stream with 4 GiB of non-zero pages";

    internal override void Run(BenchmarkReport report)
    {
        using var folder = new TmpfsFolder();
        string path = folder.File("vm.stream");
        Write(path);
        long size = new FileInfo(path).Length;
        report.Compare("file, against cat", size, 0.8, () => BenchmarkReport.Time(() => Overview(path, null)), () => Shell($"cat {path} >/dev/null"));
        report.Compare("pipe, against cat | cat", size, 0.8, () => OverviewOfPipe(path), () => Shell($"cat {path} | cat >/dev/null"));
        if (Script() is { } script)
        {
            report.Compare("file, against analyze-migration.py", size, 8, () => BenchmarkReport.Time(() => Overview(path, null)),
                () => Shell($"python3 {script} -f {path} >/dev/null"));
        }
        else
        {
            Console.WriteLine("  analyze-migration.py is not installed: tests/Interop/install-peers.sh installs it.");
        }

        GC.Collect();
        File.WriteAllText("/proc/self/clear_refs", "5");
        long idle = Peak();
        Overview(path, null);
        report.Figure("resident memory during the overview", (Peak() - idle) / 1024.0, "MiB above idle", 64);
    }

    private static void Overview(string path, Stream? forward)
    {
        var info = MigrationStreams.GetInfo(new MigrationStreamInput { Path = path, Forward = forward });
        if (!info.Complete || info.RamBlocks[0].NormalPages != RamSize / PageSize)
        {
            throw new InvalidOperationException($"The stream was not read: {info.Failure}");
        }
    }

    // cat writes into a pipe of this process, as a shell's pipeline would have it.
    private static TimeSpan OverviewOfPipe(string path)
    {
        long start = Stopwatch.GetTimestamp();
        using var cat = Process.Start(new ProcessStartInfo("cat", [path]) { RedirectStandardOutput = true })!;
        Overview(path, cat.StandardOutput.BaseStream);
        cat.WaitForExit();
        return Stopwatch.GetElapsedTime(start);
    }

    private static TimeSpan Shell(string command) => BenchmarkReport.Time(() =>
    {
        using var shell = Process.Start(new ProcessStartInfo("sh", ["-c", command]))!;
        shell.WaitForExit();
        if (shell.ExitCode != 0)
        {
            throw new InvalidOperationException($"'{command}' failed.");
        }
    });

    private static string? Script()
    {
        string root = Environment.GetEnvironmentVariable("MIGRATIONOPS_PEERS")
            ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache/migrationops/peers");
        string path = Path.Combine(root, "share/qemu-scripts/analyze-migration.py");
        return File.Exists(path) ? path : null;
    }

    private static void Write(string path)
    {
        using SafeFileHandle file = File.OpenHandle(path, FileMode.Create, FileAccess.Write);
        var output = new ArrayBufferWriter<byte>(1 << 20);
        var w = WireWriter.BigEndian(output);
        w.WriteUInt32(0x5145564d);
        w.WriteUInt32(3);
        w.WriteByte(7);
        w.WriteUInt32(4);
        w.WriteBytes("none"u8);
        w.WriteByte(1);
        w.WriteUInt32(1);
        w.WriteByte(3);
        w.WriteBytes("ram"u8);
        w.WriteUInt32(0);
        w.WriteUInt32(4);
        w.WriteUInt64(RamSize | 4);
        w.WriteByte(2);
        w.WriteBytes("m0"u8);
        w.WriteUInt64(RamSize);
        var page = new byte[PageSize];
        new Random(1).NextBytes(page);
        long position = 0;
        for (long offset = 0; offset < RamSize; offset += PageSize)
        {
            w.WriteUInt64((ulong)offset | (offset == 0 ? 0x08UL : 0x28UL));
            if (offset == 0)
            {
                w.WriteByte(2);
                w.WriteBytes("m0"u8);
            }

            w.WriteBytes(page);
            if (output.WrittenCount > 900_000)
            {
                Flush();
            }
        }

        w.WriteUInt64(0x10);
        w.WriteByte(0x7e);
        w.WriteUInt32(1);
        byte[] json = Encoding.ASCII.GetBytes("""{"configuration": {"vmsd_name": "configuration", "version": 1, "fields": [{"name": "len", "type": "uint32", "size": 4}, {"name": "name", "type": "buffer", "size": 4}]}, "page_size": 4096, "devices": []}""");
        w.WriteByte(0);
        w.WriteByte(6);
        w.WriteUInt32((uint)json.Length);
        w.WriteBytes(json);
        Flush();

        void Flush()
        {
            RandomAccess.Write(file, output.WrittenSpan, position);
            position += output.WrittenCount;
            output.ResetWrittenCount();
        }
    }

    private static long Peak()
    {
        string line = File.ReadLines("/proc/self/status").First(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
    }
}
