using System.Text;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// A program that was started safely: in a session of its own, so that Ctrl-C at our terminal does not reach it; with no descriptor of
/// ours; its output kept in bounded memory; and, unless told otherwise, killed by the kernel's means when this process ends in
/// any way.
/// </summary>
/// <remarks>
/// The last is done without the parent-death signal, which follows the thread that started the child and not the process: a shell
/// beside the program waits on a pipe whose other end is ours, and kills the program when that end closes.
/// </remarks>
internal sealed class ChildProcess : IDisposable
{
    private const int MostOutput = 64 * 1024;
    private const int KillSignal = 9;
    private const string Guard = "(IFS= read -r word <&3 || kill -9 $$) >/dev/null 2>&1 & exec \"$@\" 3<&-";

    private readonly TaskCompletionSource<int> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _gate = new();
    private readonly byte[] _output = new byte[MostOutput];
    private readonly SafeFileHandle _process;
    private readonly SafeFileHandle? _lifeline;
    private readonly SideThread _watcher;
    private long _outputLength;

    private ChildProcess(int id, SafeFileHandle process, SafeFileHandle output, SafeFileHandle? lifeline, string name)
    {
        Id = id;
        Name = name;
        _process = process;
        _lifeline = lifeline;
        var watched = Fcntl.Duplicate(process, name);
        _watcher = SideThread.Start("child process", () => WatchToEnd(watched, output));
    }

    /// <summary>Its process id.</summary>
    internal int Id { get; }

    /// <summary>Its program.</summary>
    internal string Name { get; }

    /// <summary>Becomes the exit code, or 128 and the signal's number, when it has ended and its output was read.</summary>
    internal Task<int> Exited => _exited.Task;

    /// <summary>The last 64 KiB of what it wrote to its standard output and error.</summary>
    internal string Output
    {
        get
        {
            lock (_gate)
            {
                int start = (int)(_outputLength % MostOutput);
                return _outputLength <= MostOutput ? Encoding.UTF8.GetString(_output, 0, (int)_outputLength)
                    : Encoding.UTF8.GetString(_output, start, MostOutput - start) + Encoding.UTF8.GetString(_output, 0, start);
            }
        }
    }

    /// <summary>Starts a program.</summary>
    /// <param name="program">Its path, or a name that is looked for in PATH.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="outlivesUs">True to let it run on when this process ends; then <see cref="Dispose"/> does not end it either.</param>
    /// <exception cref="QmpException"><see cref="QmpError.StartFailed"/>.</exception>
    internal static ChildProcess Start(string program, IReadOnlyList<string> arguments, bool outlivesUs = false)
    {
        string path = Find(program);
        var (output, childOutput) = Pipe.Create();
        (SafeFileHandle Read, SafeFileHandle Write)? lifeline = outlivesUs ? null : Pipe.Create();
        try
        {
            int pid = lifeline is { } line
                ? Spawn.Start("/bin/sh", ["-c", Guard, "sh", path, .. arguments], childOutput, line.Read)
                : Spawn.Start(path, arguments, childOutput, null);
            var process = ProcessCalls.TryOpenProcess(pid) ?? throw new QmpException(QmpError.StartFailed, $"{program}: the process {pid} cannot be watched: pidfd_open failed.");
            return new ChildProcess(pid, process, output, lifeline?.Write, program) { KeepsRunning = outlivesUs };
        }
        catch (Exception e)
        {
            output.Dispose();
            lifeline?.Write.Dispose();
            throw e is WireException ? new QmpException(QmpError.StartFailed, $"'{program}' cannot be started: {e.Message}", e) { Target = program } : e;
        }
        finally
        {
            childOutput.Dispose();
            lifeline?.Read.Dispose();
        }
    }

    private bool KeepsRunning { get; init; }

    /// <summary>Kills it (SIGKILL: a QEMU in a damaged migration ignores anything less). Ended already is no error.</summary>
    internal void Kill() => Spawn.Signal(_process, KillSignal);

    /// <summary>Sends it a signal by number.</summary>
    internal void Signal(int signal) => Spawn.Signal(_process, signal);

    /// <summary>Kills it unless it outlives us, waits for its end and frees everything.</summary>
    public void Dispose()
    {
        if (_process.IsClosed)
        {
            return;
        }

        if (!KeepsRunning)
        {
            Kill();
            _watcher.Join();
            _watcher.Dispose();
        }

        _lifeline?.Dispose();
        _process.Dispose();
    }

    private void WatchToEnd(SafeFileHandle process, SafeFileHandle output)
    {
        try
        {
            Watch(process, output);
            _exited.TrySetResult(Spawn.Reap(Id) ?? -1);
        }
        catch (WireException e)
        {
            _exited.TrySetException(e);
        }
    }

    // Reads its output until it has ended. Whatever inherited its output may hold that open for longer.
    private void Watch(SafeFileHandle process, SafeFileHandle output)
    {
        using (process)
        using (output)
        {
            Fcntl.SetNonBlocking(output, Name);
            bool isOpen = true;
            while (true)
            {
                Span<Poll.PollFd> fds =
                [
                    new Poll.PollFd { Fd = (int)process.DangerousGetHandle(), Events = PollEvents.Readable },
                    new Poll.PollFd { Fd = isOpen ? (int)output.DangerousGetHandle() : -1, Events = PollEvents.Readable },
                ];
                Poll.Wait(fds, -1);
                isOpen = isOpen && (fds[1].Returned == PollEvents.None || ReadAvailable(output));
                if (fds[0].Returned != PollEvents.None)
                {
                    if (isOpen)
                    {
                        ReadAvailable(output);
                    }

                    break;
                }
            }
        }

        // The guard must not kill a process that gets the number after us: it is told before the number is free.
        if (_lifeline is not null)
        {
            FdIo.Write(_lifeline, "\n"u8);
        }
    }

    // False at the end of the stream.
    private bool ReadAvailable(SafeFileHandle output)
    {
        Span<byte> buffer = stackalloc byte[4096];
        nint count;
        while ((count = FdIo.Read(output, buffer)) > 0)
        {
            lock (_gate)
            {
                for (int i = 0; i < count; i++)
                {
                    _output[_outputLength++ % MostOutput] = buffer[i];
                }
            }
        }

        return count < 0 && NativeError.Last is NativeError.EAGAIN or NativeError.EINTR;
    }

    private static string Find(string program)
    {
        if (program.Contains('/', StringComparison.Ordinal))
        {
            return Path.GetFullPath(program);
        }

        return (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries)
            .Select(folder => Path.Combine(folder, program)).FirstOrDefault(File.Exists)
            ?? throw new QmpException(QmpError.StartFailed, $"There is no program '{program}' in PATH.", action: "Give the path of the program.") { Target = program };
    }
}
