using System.Diagnostics;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Runs the program that undoes a compression, as libvirt does. A thread feeds it, so that neither side waits for the
/// other for ever; disposing ends both.
/// </summary>
internal sealed class Decompressor : ForwardStream
{
    private readonly Process _process;
    private readonly SideThread _feeder;
    private readonly string _program;
    private Exception? _feedFailure;
    private bool _ended;

    /// <param name="program">gzip, bzip2, xz, lzop or zstd.</param>
    /// <param name="feed">Writes the compressed bytes; runs on a thread of its own.</param>
    internal Decompressor(string program, Action<Stream> feed)
    {
        _program = program;
        var start = new ProcessStartInfo(program)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.ArgumentList.Add("-dc");
        try
        {
            _process = Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new StreamException(StreamError.Decompression, $"The data is compressed with {program}, and no program of that name is installed.", e);
        }

        _feeder = SideThread.Start($"{program} feeder", () => Feed(feed));
    }

    public override int Read(Span<byte> buffer)
    {
        int count = _process.StandardOutput.BaseStream.Read(buffer);
        if (count == 0 && !_ended && !buffer.IsEmpty)
        {
            _ended = true;
            CheckEnd();
        }

        return count;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            if (!_process.HasExited)
            {
                _process.Kill();
            }

            _process.WaitForExit();
            _feeder.Join();
            _feeder.Dispose();
            _process.Dispose();
        }

        base.Dispose(disposing);
    }

    private void Feed(Action<Stream> feed)
    {
        try
        {
            using var input = _process.StandardInput.BaseStream;
            feed(input);
        }
        catch (Exception e) when (e is IOException or MigrationOpsException or OperationCanceledException)
        {
            // Told by the reading side once the program's output ends; a program that ended early breaks the pipe.
            _feedFailure = e;
        }
    }

    private void CheckEnd()
    {
        string complaint = _process.StandardError.ReadToEnd().Trim();
        _process.WaitForExit();
        _feeder.Join();
        if (_feedFailure is MigrationOpsException or OperationCanceledException)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(_feedFailure);
        }

        if (_process.ExitCode != 0)
        {
            throw new StreamException(StreamError.Decompression, $"{_program} could not decompress the data: {complaint}", _feedFailure,
                Compressions.DamagedAction);
        }
    }
}
