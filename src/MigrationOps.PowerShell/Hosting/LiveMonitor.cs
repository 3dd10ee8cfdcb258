using System.Globalization;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Wire;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>A connected monitor as the pipeline sees it. The runspace's session owns it.</summary>
internal sealed class LiveMonitor(QmpMonitor engine, RelayLogger log, RunspaceSession session, IDisposable? helper) : QemuMonitor
{
    private IDisposable? _helper = helper;

    /// <summary>The engine's session.</summary>
    internal QmpMonitor Engine => engine;

    /// <summary>The log of the cmdlet that uses it; null between two uses.</summary>
    internal RelayLogger Log => log;

    /// <summary>The number of the last event that Wait-QemuEvent has given away.</summary>
    internal long LastEvent { get; set; }

    public override string? Name => engine.VMName;

    public override string Uri => engine.Name;

    public override string? Path => (engine.Options.Endpoint as Endpoint.Unix)?.Path;

    public override int ProcessId => engine.Peer?.Pid ?? 0;

    public override string Version => engine.Version.Number;

    public override string Package => engine.Version.Package;

    public override string[] Capabilities => [.. engine.Capabilities];

    public override VMManager Manager => engine.Manager;

    public override bool ReadOnly => engine.Options.ReadOnly;

    public override bool Lease => engine.Options.Lease;

    public override bool IsConnected => engine.IsConnected;

    public override string State => engine.State.RunState ?? "unknown";

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Name ?? "VM"} at {Uri}");

    protected override void Dispose(bool disposing)
    {
        session.Release(this);
        engine.DisposeAsync().AsTask().GetAwaiter().GetResult();
        Interlocked.Exchange(ref _helper, null)?.Dispose();
    }
}
