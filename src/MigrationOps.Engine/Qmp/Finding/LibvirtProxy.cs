using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// libvirt's <c>virt-qemu-qmp-proxy</c>, started for one monitor session: an ordinary QMP socket in front of a domain whose own monitor
/// libvirt holds. It ends with this object.
/// </summary>
internal sealed class LibvirtProxy : IDisposable
{
    /// <summary>libvirt's own default for whoever manages a host.</summary>
    internal const string UsualUri = "qemu:///system";

    private const string Program = "virt-qemu-qmp-proxy";
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(10);

    private readonly ChildProcess _process;
    private readonly string _folder;

    private LibvirtProxy(ChildProcess process, string folder, string socketPath)
    {
        _process = process;
        _folder = folder;
        SocketPath = socketPath;
    }

    /// <summary>Where it listens.</summary>
    internal string SocketPath { get; }

    /// <summary>Starts it for a domain.</summary>
    /// <exception cref="QmpException"><see cref="QmpError.StartFailed"/>.</exception>
    internal static LibvirtProxy Start(string uri, string domain, string program = Program)
    {
        string folder = Directory.CreateTempSubdirectory("migrationops-proxy-").FullName;
        string path = Path.Combine(folder, "qmp");
        try
        {
            return new LibvirtProxy(ChildProcess.Start(program, ["-c", uri, domain, path]), folder, path);
        }
        catch (QmpException e)
        {
            Directory.Delete(folder, recursive: true);
            throw new QmpException(e.Reason, e.Message, e, "Install libvirt's proxy (package libvirt-clients-qemu).") { Target = domain };
        }
    }

    /// <summary>Connects to it as soon as it listens.</summary>
    internal async Task<QmpMonitor> ConnectAsync(QmpMonitorOptions options, ILogger? logger, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        if (options.Timeouts.Command != Timeout.InfiniteTimeSpan)
        {
            limit.CancelAfter(options.Timeouts.Command);
        }

        try
        {
            while (true)
            {
                try
                {
                    return await QmpMonitor.ConnectAsync(options, logger, limit.Token).ConfigureAwait(false);
                }
                catch (WireException e) when (e.Reason is WireError.NotFound or WireError.ConnectFailed && !_process.Exited.IsCompleted)
                {
                    await Task.WhenAny(_process.Exited, Task.Delay(Look, limit.Token)).ConfigureAwait(false);
                    limit.Token.ThrowIfCancellationRequested();
                }
                catch (MigrationOpsException e) when (_process.Exited.IsCompleted)
                {
                    throw new QmpException(QmpError.StartFailed, $"{Program} ended: {_process.Output.Trim()}", e, "Check that libvirt runs and has the domain (virsh list), and that its address is right.");
                }
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new QmpException(QmpError.StartFailed, $"{Program} does not listen within {options.Timeouts.Command.TotalSeconds:0.###} s: {_process.Output.Trim()}", action: "Check that libvirt answers (virsh list).");
        }
    }

    public void Dispose()
    {
        _process.Dispose();
        Directory.Delete(_folder, recursive: true);
    }
}
