using System.Buffers;
using System.Globalization;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Cpr;

/// <summary>
/// The hand-over of mode cpr-exec (QEMU 10.2 and later): the old program executes the new one in its own process. The
/// state lies in a memfd whose number is in an environment variable, and has the numbers of the descriptors, which stay
/// open because none of them is close-on-exec any more.
/// </summary>
internal sealed class CprExecState : IDisposable
{
    private readonly IReadOnlyList<CprEntry> _entries;
    private readonly SafeFileHandle _memory;

    private CprExecState(SafeFileHandle memory, IReadOnlyList<CprEntry> entries, long byteCount)
    {
        _memory = memory;
        _entries = entries;
        ByteCount = byteCount;
    }

    /// <summary>The environment variable that the new program reads.</summary>
    public static string VariableName => CprFormat.ExecVariable;

    /// <summary>The value of the variable: the number of the memfd.</summary>
    public string VariableValue => ((int)_memory.DangerousGetHandle()).ToString(CultureInfo.InvariantCulture);

    /// <summary>How long the state is.</summary>
    public long ByteCount { get; }

    /// <summary>Writes the state, and lets every program that this process starts from now on have the descriptors
    /// and the variable that leads to them.</summary>
    /// <param name="entries">Newest first; they stay the caller's and must stay open.</param>
    /// <param name="devices">The section that every QEMU with this mode reads.</param>
    /// <returns>What ends the exposure when it is disposed.</returns>
    public static CprExecState Write(IReadOnlyList<CprEntry> entries, IReadOnlyList<CprVfioDevice> devices)
    {
        ArgumentNullException.ThrowIfNull(entries);
        CprSender.Check(entries);
        var text = new ArrayBufferWriter<byte>();
        CprStateEncoder.WriteHeader(text);
        foreach (var entry in entries)
        {
            CprStateEncoder.WriteExecEntry(text, entry.Name, entry.Id, entry.Number);
        }

        CprStateEncoder.WriteEnd(text, devices);
        var memory = MemFd.Create(CprFormat.ExecVariable, text.WrittenCount);
        var state = new CprExecState(memory, entries, text.WrittenCount);
        try
        {
            RandomAccess.Write(memory, text.WrittenSpan, 0);
            state.SetCloseOnExec(false);
            Environment.SetEnvironmentVariable(VariableName, state.VariableValue);
            return state;
        }
        catch
        {
            state.Dispose();
            throw;
        }
    }

    /// <summary>Reads the state that the program which executed this one has left, and takes its descriptors over.</summary>
    /// <param name="variableValue">The value of the environment variable.</param>
    /// <exception cref="CprException">There is none, or it is malformed; every descriptor is as it was.</exception>
    public static CprSet Read(string? variableValue)
    {
        if (!int.TryParse(variableValue, NumberStyles.None, CultureInfo.InvariantCulture, out int number))
        {
            throw new CprException(CprError.NothingToDo, variableValue is null
                ? $"There is no {CprFormat.ExecVariable} in the environment: nothing was handed over to this process."
                : $"{CprFormat.ExecVariable} is '{variableValue}', not the number of a descriptor.",
                action: "Run this in a program that QEMU's cpr-exec-command starts.");
        }

        string source = $"{CprFormat.ExecVariable}={number}";
        using var memory = Inherit(number, source);
        var walker = new CprStateWalker(CprMode.Exec, source);
        Span<byte> buffer = stackalloc byte[4096];
        for (int count; (count = RandomAccess.Read(memory, buffer, walker.Offset)) > 0;)
        {
            walker.Feed(buffer[..count], last: false);
        }

        walker.Feed([], last: true);
        var set = new CprSet(TakeOver(walker, number, source), walker.VfioDevices, walker.Offset);
        new SafeFileHandle(number, true).Dispose();
        return set;
    }

    /// <summary>Makes the descriptors close-on-exec again, and removes the state and the variable.</summary>
    public void Dispose()
    {
        if (!_memory.IsClosed)
        {
            if (Environment.GetEnvironmentVariable(VariableName) == VariableValue)
            {
                Environment.SetEnvironmentVariable(VariableName, null);
            }

            SetCloseOnExec(true);
            _memory.Dispose();
        }
    }

    /// <summary>Forgets the descriptors without touching them: they have a new owner.</summary>
    internal void Abandon() => _memory.SetHandleAsInvalid();

    private void SetCloseOnExec(bool closes)
    {
        foreach (var entry in _entries)
        {
            if (!entry.Handle.IsClosed)
            {
                Fcntl.SetCloseOnExec(entry.Handle, closes, $"entry '{entry.Name}'");
            }
        }

        Fcntl.SetCloseOnExec(_memory, closes, CprFormat.ExecVariable);
    }

    // Nothing is taken over before all of it is known to be there.
    private static List<CprEntry> TakeOver(CprStateWalker walker, int memory, string source)
    {
        var numbers = new HashSet<int> { memory };
        foreach (var entry in walker.Entries)
        {
            string what = $"entry '{entry.Name}', id {entry.Id}";
            if (!numbers.Add(entry.Descriptor))
            {
                throw new CprException(CprError.MissingDescriptor,
                    $"{source}: {what}, has descriptor {entry.Descriptor}, which something else has already.")
                { ByteOffset = entry.Offset };
            }

            Inherit(entry.Descriptor, $"{source}: {what}").Dispose();
        }

        var entries = new List<CprEntry>(walker.Entries.Count);
        foreach (var entry in walker.Entries)
        {
            var handle = new SafeFileHandle(entry.Descriptor, true);
            Fcntl.SetCloseOnExec(handle, true, source);
            entries.Add(new CprEntry(entry.Name, entry.Id, handle, received: true));
        }

        return entries;
    }

    // What this process opened itself is close-on-exec: a state that names such a descriptor is wrong, and taking it
    // would close it while the new owner uses it.
    private static SafeFileHandle Inherit(int number, string what)
    {
        var handle = new SafeFileHandle(number, false);
        if (FileStatus.TryGet(handle) is null || Fcntl.IsCloseOnExec(handle))
        {
            handle.Dispose();
            throw new CprException(CprError.MissingDescriptor, $"{what}: descriptor {number} was not handed over to this process.");
        }

        return handle;
    }
}
