using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Moving;

/// <summary>
/// The journal of one move: a file of JSON lines that is only appended to, each line durable before the step that it announces. One
/// process at a time may write it; everybody may read it who may read its owner's files.
/// </summary>
internal sealed class MoveJournal : IDisposable
{
    private const UnixFileMode Owner = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private readonly SafeFileHandle _handle;

    private MoveJournal(string path, SafeFileHandle handle)
    {
        Path = path;
        _handle = handle;
    }

    /// <summary>Where it lies.</summary>
    internal string Path { get; }

    /// <summary>The folder of journals that no path was given for.</summary>
    internal static string DefaultFolder => System.IO.Path.Combine(Environment.GetEnvironmentVariable("XDG_STATE_HOME") is { Length: > 0 } state ? state
        : System.IO.Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".local", "state"), "migrationops");

    /// <summary>A new name in a folder: the VM, the time, and the number of the move.</summary>
    internal static string NewPath(string? vm, Guid move) => System.IO.Path.Combine(DefaultFolder,
        $"{string.Concat((vm ?? "vm").Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' ? c : '_'))}-{DateTime.UtcNow:yyyyMMdd'T'HHmmss}-{move.ToString("N")[..8]}.jsonl");

    /// <summary>Begins a journal.</summary>
    /// <exception cref="MoveException"><see cref="MoveError.JournalUnusable"/>; there is a file of that name already, for one.</exception>
    internal static MoveJournal Create(string path)
    {
        try
        {
            string folder = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!;
            Directory.CreateDirectory(folder, Owner | UnixFileMode.UserExecute);
            var journal = OpenLocked(path, FileMode.CreateNew);
            DirectorySync.Flush(folder);
            return journal;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or MigrationOpsException and not MoveException)
        {
            throw new MoveException(MoveError.JournalUnusable, $"The journal '{path}' cannot be made: {e.Message}", e) { Target = path };
        }
    }

    /// <summary>Opens a journal to write more.</summary>
    /// <exception cref="MoveException"><see cref="MoveError.JournalInUse"/> if another process has it open for that.</exception>
    internal static MoveJournal Open(string path)
    {
        try
        {
            var journal = OpenLocked(path, FileMode.Open);
            journal.EndTornLine();
            return journal;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MoveException(MoveError.JournalUnusable, $"The journal '{path}' cannot be opened: {e.Message}", e) { Target = path };
        }
    }

    /// <summary>True if a process has the journal open for writing: the move is under way.</summary>
    internal static bool IsInUse(string path)
    {
        try
        {
            using var journal = OpenLocked(path, FileMode.Open);
            return false;
        }
        catch (MoveException e) when (e.Reason == MoveError.JournalInUse)
        {
            return true;
        }
        catch (UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>Writes lines with one write. They are on the disk when this returns, unless they tell of a phase alone, on which nothing rests.</summary>
    /// <exception cref="MoveException"><see cref="MoveError.JournalUnusable"/>: they may be there in part.</exception>
    internal void Append(params ReadOnlySpan<MoveRecord> records)
    {
        try
        {
            byte[] lines = [];
            bool mustLast = false;
            foreach (var record in records)
            {
                mustLast |= record.Record != MoveRecordKind.Phase;
                lines = [.. lines, .. record.Encode()];
            }

            RandomAccess.Write(_handle, lines, 0);
            if (mustLast)
            {
                RandomAccess.FlushToDisk(_handle);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MoveException(MoveError.JournalUnusable, $"The journal '{Path}' cannot be written: {e.Message}", e) { Target = Path };
        }
    }

    /// <summary>Lets go of the file.</summary>
    public void Dispose() => _handle.Dispose();

    private static MoveJournal OpenLocked(string path, FileMode mode)
    {
        var options = new FileStreamOptions { Mode = mode, Access = FileAccess.ReadWrite, Share = FileShare.ReadWrite, BufferSize = 0 };
        if (mode == FileMode.CreateNew)
        {
            options.UnixCreateMode = Owner;
        }

        // The handle alone: the lock is gone with its last descriptor.
        SafeFileHandle handle;
        using (var stream = new FileStream(path, options))
        {
            handle = Fcntl.Duplicate(stream.SafeFileHandle, path);
        }

        try
        {
            Fcntl.SetAppend(handle, path);
            return FileLock.TryTake(handle, path) ? new MoveJournal(path, handle)
                : throw new MoveException(MoveError.JournalInUse, $"Another process drives the move of the journal '{path}'.") { Target = path };
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    // A line that a killed process has written in part must not swallow the next one.
    private void EndTornLine()
    {
        Span<byte> last = stackalloc byte[1];
        long length = RandomAccess.GetLength(_handle);
        if (length > 0 && RandomAccess.Read(_handle, last, length - 1) == 1 && last[0] != '\n')
        {
            RandomAccess.Write(_handle, "\n"u8, 0);
        }
    }
}
