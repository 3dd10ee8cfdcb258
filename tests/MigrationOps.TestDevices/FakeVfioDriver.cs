using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.TestDevices;

/// <summary>A device behind the ioctls: keeps the kernel's rules, holds a state, and fails when it is told to.</summary>
/// <remarks>
/// A device with pre-copy gives <see cref="Initial"/> first, then one of <see cref="Dirtied"/> after another - it has changed
/// at every look - and what is left of its state after it was stopped.
/// </remarks>
internal sealed class FakeVfioDriver(VfioMigrationFlags flags, byte[]? state = null) : IVfioDriver
{
    private const int InputOutputError = 5;
    private const int NoMessage = 42;

    private FileStream? _file;
    private long _initialEnd;
    private int _changes;

    public string Path { get; init; } = "/dev/vfio/devices/vfio0";

    internal VfioState Now { get; set; } = VfioState.Running;

    internal List<VfioState> Entered { get; } = [];

    /// <summary>The transition to this state fails.</summary>
    internal VfioState? Refuses { get; set; }

    /// <summary>Where a refused transition leaves the device.</summary>
    internal VfioState AfterRefusal { get; set; } = VfioState.Error;

    internal byte[] State { get; private set; } = state ?? [];

    /// <summary>Null for a device that gives everything in pre-copy.</summary>
    internal byte[]? Initial { get; init; }

    internal byte[][] Dirtied { get; init; } = [];

    /// <summary>Reads fail with this errno from this state on.</summary>
    internal (VfioState In, int Error)? ReadFails { get; init; }

    /// <summary>The PCI configuration space; empty for a device that is none of PCI.</summary>
    internal byte[] ConfigSpace { get; init; } = [];

    internal int Resets { get; private set; }

    internal bool ResetFails { get; init; }

    public VfioMigrationFlags? GetFlags() => flags == 0 ? null : flags;

    public VfioState GetState() => Now;

    public long? GetStopCopySize() => State.Length;

    public int SetState(VfioState next, out SafeFileHandle? data)
    {
        data = null;
        Require(VfioStateMachine.IsArc(Now, next, flags), $"{Now} -> {next} is no arc");
        Entered.Add(next);
        if (Refuses == next)
        {
            Now = AfterRefusal;
            return InputOutputError;
        }

        if (_file is not null && Now == VfioState.Resuming)
        {
            State = TakeContent();
        }

        bool continues = Now is VfioState.PreCopy or VfioState.PreCopyP2P;
        Now = next;
        if (next == VfioState.StopCopy && continues)
        {
            // What was not given while it ran follows in the same stream.
            Append(Initial is null ? [] : [.. Dirtied.Skip(_changes).SelectMany(d => d), .. State]);
        }

        data = next switch
        {
            VfioState.Resuming => Open([]),
            VfioState.StopCopy when !continues => Open([.. Initial ?? [], .. Dirtied.SelectMany(d => d), .. State]),
            VfioState.PreCopy or VfioState.PreCopyP2P when !continues => Open(Initial ?? State),
            _ => null,
        };
        (_initialEnd, _changes) = data is null ? (_initialEnd, _changes) : (Initial?.Length ?? 0, 0);
        return 0;
    }

    public int Read(SafeFileHandle data, Span<byte> buffer)
    {
        if (ReadFails is { } fails && fails.In == Now)
        {
            return -fails.Error;
        }

        int count = _file!.Read(buffer);
        return count > 0 || Now is not (VfioState.PreCopy or VfioState.PreCopyP2P) ? count : -NoMessage;
    }

    public int GetPreCopyInfo(SafeFileHandle data, out PreCopyInfo info)
    {
        Require(Now is VfioState.PreCopy or VfioState.PreCopyP2P, $"the kernel answers only in pre-copy, this is {Now}");
        if (_file!.Position >= _initialEnd && _changes < Dirtied.Length)
        {
            Append(Dirtied[_changes++]);
        }

        long initial = Math.Max(0, _initialEnd - _file.Position);
        info = new PreCopyInfo(initial, _file.Length - _file.Position - initial);
        return 0;
    }

    public int ReadConfig(Span<byte> buffer)
    {
        int count = Math.Min(buffer.Length, ConfigSpace.Length);
        ConfigSpace.AsSpan(0, count).CopyTo(buffer);
        return count;
    }

    public int Reset()
    {
        Resets++;
        if (ResetFails)
        {
            return InputOutputError;
        }

        Now = VfioState.Running;
        return 0;
    }

    /// <summary>Closes the device. What it holds and the state that it is in stay, as with the kernel's mtty, and it can be opened again.</summary>
    public void Dispose()
    {
        _file?.Dispose();
        _file = null;
    }

    private static void Require(bool kept, string rule)
    {
        if (!kept)
        {
            throw new InvalidOperationException($"A caller broke a rule of the kernel: {rule}.");
        }
    }

    // The kernel's data descriptors are streams; a file without a name behaves the same for one pass in one direction.
    private SafeFileHandle Open(byte[] content)
    {
        _file?.Dispose();
        _file = new FileStream(System.IO.Path.GetTempFileName(), FileMode.Open, FileAccess.ReadWrite, FileShare.None, 0);
        File.Delete(_file.Name);
        Append(content);
        return Fcntl.Duplicate(_file.SafeFileHandle, "state");
    }

    private void Append(byte[] content)
    {
        long position = _file!.Position;
        _file.Position = _file.Length;
        _file.Write(content);
        _file.Position = position;
    }

    private byte[] TakeContent()
    {
        byte[] content = new byte[_file!.Length];
        _file.Position = 0;
        _file.ReadExactly(content);
        return content;
    }
}
