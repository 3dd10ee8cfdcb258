using System.Diagnostics;
using System.IO.Pipes;
using System.Security.Cryptography;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Benchmarks;

/// <summary>
/// A save of 4 GiB into a file on tmpfs, against <c>dd bs=1M</c> that reads a pipe with the same writer behind it, and
/// against a bare SHA-256.
/// </summary>
internal sealed class VhostSaveBenchmark : TransferBenchmark
{
    private const long Size = 4L << 30;

    internal override string Name => "vhost-save";

    internal override string Description => "4 GiB from an embedded back-end into a file on tmpfs";

    internal override void Run(BenchmarkReport report)
    {
        using var folder = new TmpfsFolder();
        string socket = folder.File("b.sock");
        string file = folder.File("state");
        using var backend = VhostBackend.Start(new VhostBackendOptions { SocketPath = socket, State = new PatternBackendState(Size) });

        report.Compare("hash off, against dd bs=1M", Size, 1.0, () => Save(socket, file, hash: false), () => Dd(file));
        report.Compare("hash on, against dd or SHA-256", Size, 0.9, () => Save(socket, file, hash: true), () => Slower(Dd(file), BareHash()));
    }

    private static TimeSpan Save(string socket, string file, bool hash)
    {
        File.Delete(file);
        return BenchmarkReport.Time(() =>
        {
            using var scope = new TransferScope(TransferScope.DefaultTimeout);
            VhostStateSaver.Save(new VhostTransferOptions { SocketPath = socket, Endpoint = new Endpoint.File(file), ComputeHash = hash }, scope);
        });
    }

    // The same writer, a thread of this process, and the same size of pipe.
    private static TimeSpan Dd(string file)
    {
        File.Delete(file);
        using var pipe = new AnonymousPipeServerStream(PipeDirection.Out, HandleInheritability.None, 1 << 20);
        int read = (int)pipe.ClientSafePipeHandle.DangerousGetHandle();
        long start = Stopwatch.GetTimestamp();
        using var dd = Process.Start(new ProcessStartInfo("sh", ["-c", $"exec dd bs=1M status=none of={file} < /proc/{Environment.ProcessId}/fd/{read}"])
        {
            RedirectStandardOutput = true,
        })!;
        new PatternBackendState(Size).WriteTo(pipe);
        pipe.DisposeLocalCopyOfClientHandle();
        pipe.Dispose();
        dd.WaitForExit();
        return dd.ExitCode == 0 ? Stopwatch.GetElapsedTime(start) : throw new InvalidOperationException("dd failed.");
    }

    private static TimeSpan BareHash() => BenchmarkReport.Time(() =>
    {
        byte[] block = new byte[1 << 20];
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (long done = 0; done < Size; done += block.Length)
        {
            hash.AppendData(block);
        }

        hash.GetHashAndReset();
    });

    private static TimeSpan Slower(TimeSpan a, TimeSpan b) => a > b ? a : b;
}
