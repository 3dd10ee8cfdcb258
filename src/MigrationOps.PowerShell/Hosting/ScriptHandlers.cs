using System.Collections.ObjectModel;
using System.Globalization;
using System.Management.Automation;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// Handlers that a user wrote as script blocks. A driver calls from its own thread; the script runs on the thread of the pipeline
/// that runs the migration, in the runspace that it was written in, where its variables and functions are.
/// </summary>
internal sealed class ScriptHandlers(IReadOnlyDictionary<SaveVmHandler, ScriptBlock> scripts) : ISaveVmHandlers
{
    private IOperationHost? _host;

    public SaveVmHandler Offered { get; } = scripts.Keys.Aggregate(SaveVmHandler.None, (set, handler) => set | handler);

    /// <summary>Says where the scripts run during a migration; null after it.</summary>
    internal void Attach(IOperationHost? host) => _host = host;

    public void SaveState(SaveVmSaveStream stream, SaveVmContext context) => Run(SaveVmHandler.SaveState, stream, context);

    public void SavePrepare(SaveVmContext context) => Run(SaveVmHandler.SavePrepare, context);

    public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => Run(SaveVmHandler.SaveSetup, stream, context);

    public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
        => Ask<bool>(SaveVmHandler.SaveLiveIterate, "$true when nothing is left for now, $false when there is more", stream, context);

    public PendingBytes StatePendingEstimate(SaveVmContext context) => Pending(SaveVmHandler.StatePendingEstimate, context);

    public PendingBytes StatePendingExact(SaveVmContext context) => Pending(SaveVmHandler.StatePendingExact, context);

    public bool IsActive(SaveVmContext context) => Ask<bool>(SaveVmHandler.IsActive, "$true or $false", context);

    public bool IsActiveIterate(SaveVmContext context) => Ask<bool>(SaveVmHandler.IsActiveIterate, "$true or $false", context);

    public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context)
        => Run(SaveVmHandler.SaveLiveCompletePrecopy, stream, context);

    public bool HasPostcopy(SaveVmContext context) => Ask<bool>(SaveVmHandler.HasPostcopy, "$true or $false", context);

    public void SaveLiveCompletePostcopy(SaveVmSaveStream stream, SaveVmContext context)
        => Run(SaveVmHandler.SaveLiveCompletePostcopy, stream, context);

    public void ResumePrepare(SaveVmContext context) => Run(SaveVmHandler.ResumePrepare, context);

    public void SaveLiveCompletePrecopyThread(Action<ReadOnlyMemory<byte>> send, SaveVmContext context)
        => Run(SaveVmHandler.SaveLiveCompletePrecopyThread, new Action<byte[]>(packet => send(packet)), context);

    public void SaveCleanup(SaveVmContext context) => Run(SaveVmHandler.SaveCleanup, context);

    public void LoadSetup(SaveVmContext context) => Run(SaveVmHandler.LoadSetup, context);

    public void LoadCleanup(SaveVmContext context) => Run(SaveVmHandler.LoadCleanup, context);

    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
        => Run(SaveVmHandler.LoadState, stream, context, versionId);

    public void LoadStateBuffer(ReadOnlyMemory<byte> data, SaveVmContext context)
        => Run(SaveVmHandler.LoadStateBuffer, data.ToArray(), context);

    public bool SwitchoverAckNeeded(SaveVmContext context) => Ask<bool>(SaveVmHandler.SwitchoverAckNeeded, "$true or $false", context);

    public void SwitchoverStart(SaveVmContext context) => Run(SaveVmHandler.SwitchoverStart, context);

    private PendingBytes Pending(SaveVmHandler handler, SaveVmContext context)
    {
        object last = Last(handler, "a number of bytes", context);
        return last is PendingBytes pending ? pending : new PendingBytes(Convert<long>(handler, last, "a number of bytes"));
    }

    private T Ask<T>(SaveVmHandler handler, string expected, params object[] arguments)
        => Convert<T>(handler, Last(handler, expected, arguments), expected);

    private object Last(SaveVmHandler handler, string expected, params object[] arguments)
        => Run(handler, arguments) is { Count: > 0 } output && output[^1] is { } last ? last.BaseObject
            : throw new PSInvalidOperationException($"The script block gave nothing back; it must give {expected}.");

    private static T Convert<T>(SaveVmHandler handler, object value, string expected)
        => LanguagePrimitives.TryConvertTo(value, CultureInfo.InvariantCulture, out T result) ? result
            : throw new PSInvalidOperationException($"The script block of {handler} gave '{value}' back; it must give {expected}.");

    private Collection<PSObject> Run(SaveVmHandler handler, params object[] arguments)
    {
        var host = _host ?? throw new PSInvalidOperationException($"The script block of {handler} can only run while a cmdlet of its session runs the migration.");
        return host.Invoke(() => scripts[handler].Invoke(arguments));
    }
}
