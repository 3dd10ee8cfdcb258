using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>A device behind the ioctls: keeps the kernel's rules, holds a state, and fails when it is told to.</summary>
internal sealed class FakeVfioDriver(VfioMigrationFlags flags, byte[]? state = null) : IVfioDriver
{
    private const int InputOutputError = 5;

    private FileStream? _file;

    public string Path => "/dev/vfio/devices/vfio0";

    internal VfioState Now { get; set; } = VfioState.Running;

    internal List<VfioState> Entered { get; } = [];

    /// <summary>The transition to this state fails.</summary>
    internal VfioState? Refuses { get; set; }

    /// <summary>Where a refused transition leaves the device.</summary>
    internal VfioState AfterRefusal { get; set; } = VfioState.Error;

    internal byte[] State { get; private set; } = state ?? [];

    internal int Resets { get; private set; }

    public VfioMigrationFlags? GetFlags() => flags == 0 ? null : flags;

    public VfioState GetState() => Now;

    public long? GetStopCopySize() => State.Length;

    public int SetState(VfioState next, out SafeFileHandle? data)
    {
        data = null;
        Assert.True(VfioStateMachine.IsArc(Now, next, flags), $"{Now} -> {next} is no arc");
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
        data = next switch
        {
            VfioState.Resuming => Open([]),
            VfioState.StopCopy or VfioState.PreCopy or VfioState.PreCopyP2P when !continues => Open(State),
            _ => null,
        };
        return 0;
    }

    public int Reset()
    {
        Resets++;
        Now = VfioState.Running;
        return 0;
    }

    public void Dispose() => _file?.Dispose();

    // The kernel's data descriptors are streams; a file without a name behaves the same for one pass in one direction.
    private SafeFileHandle Open(byte[] content)
    {
        _file?.Dispose();
        _file = new FileStream(System.IO.Path.GetTempFileName(), FileMode.Open, FileAccess.ReadWrite, FileShare.None, 0);
        File.Delete(_file.Name);
        _file.Write(content);
        _file.Position = 0;
        return Fcntl.Duplicate(_file.SafeFileHandle, "state");
    }

    private byte[] TakeContent()
    {
        byte[] content = new byte[_file!.Length];
        _file.Position = 0;
        _file.ReadExactly(content);
        return content;
    }
}
