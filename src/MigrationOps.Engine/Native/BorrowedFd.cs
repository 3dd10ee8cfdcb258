using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>The number of a descriptor for the length of one system call; the handle cannot be closed meanwhile.</summary>
internal ref struct BorrowedFd
{
    private readonly SafeHandle _handle;
    private bool _held;

    internal BorrowedFd(SafeHandle handle)
    {
        _handle = handle;
        handle.DangerousAddRef(ref _held);
        Number = (int)handle.DangerousGetHandle();
    }

    internal int Number { get; }

    public void Dispose()
    {
        if (_held)
        {
            _held = false;
            _handle.DangerousRelease();
        }
    }
}
