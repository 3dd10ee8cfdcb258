using System.Globalization;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Moving;

/// <summary>What is known of a process that a journal names.</summary>
internal enum ProcessProof
{
    /// <summary>It cannot be seen from here.</summary>
    Unknown,

    /// <summary>The same process is there.</summary>
    Alive,

    /// <summary>It has ended: its number is free or another process has it, or its host was booted since.</summary>
    Dead,
}

/// <summary>A host and its boot, as far as they can be told apart.</summary>
/// <param name="Name">The host's name.</param>
/// <param name="MachineId">/etc/machine-id; null if there is none.</param>
/// <param name="BootId">The kernel's number of this boot.</param>
/// <param name="PidSpace">The namespace of process numbers: in another one they mean others.</param>
internal sealed record MoveHost(string Name, string? MachineId, string? BootId, string? PidSpace)
{
    internal static MoveHost Current { get; } = new(Environment.MachineName, ReadLine("/etc/machine-id"), ReadLine("/proc/sys/kernel/random/boot_id"),
        new FileInfo("/proc/self/ns/pid").LinkTarget);

    private static string? ReadLine(string path)
    {
        try
        {
            return File.ReadAllText(path).Trim() is { Length: > 0 } text ? text : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}

/// <summary>One side of a move: its monitor, and what tells its process from every other.</summary>
/// <param name="Monitor">The address of the monitor.</param>
/// <param name="Uuid">The VM's UUID; null if it has none.</param>
/// <param name="Host">The host of the process, if the monitor is a socket of a QEMU on the controller's host; null otherwise.</param>
/// <param name="Pid">The process id; 0 if the host is not known.</param>
/// <param name="StartTime">When the process started, in ticks since the boot.</param>
/// <param name="Version">The QEMU's version.</param>
internal sealed record MoveSide(string Monitor, string? Uuid, MoveHost? Host, int Pid, long? StartTime, string Version)
{
    private const string NoUuid = "00000000-0000-0000-0000-000000000000";

    /// <summary>Asks a monitor who it is.</summary>
    internal static async Task<MoveSide> TakeAsync(QmpMonitor monitor, CancellationToken cancellationToken)
    {
        string? uuid = (await monitor.ExecuteAsync("query-uuid", cancellationToken: cancellationToken).ConfigureAwait(false)).Text("UUID");

        // A socket may be that of a tunnel or of a manager, whose end says nothing of the QEMU behind it.
        int pid = monitor.Peer?.Pid ?? 0;
        bool isHere = pid > 0 && VMFinder.IsQemu(pid);
        return new MoveSide(monitor.Name, uuid == NoUuid ? null : uuid, isHere ? MoveHost.Current : null, isHere ? pid : 0,
            isHere ? ProcFiles.StartTime(pid) : null, monitor.Version.ToString());
    }

    /// <summary>Looks for the process.</summary>
    internal ProcessProof FindProcess() => FindProcess(MoveHost.Current, Look);

    /// <summary>The same by what is known of a host.</summary>
    /// <param name="here">The host that looks.</param>
    /// <param name="look">The state (as in /proc/PID/stat) and the start time of a process; null if there is none.</param>
    internal ProcessProof FindProcess(MoveHost here, Func<int, (char State, long StartTime)?> look)
    {
        if (Host is null || Pid == 0 || StartTime is null)
        {
            return ProcessProof.Unknown;
        }

        bool sameMachine = Host.MachineId is not null ? Host.MachineId == here.MachineId : Host.BootId is not null && Host.BootId == here.BootId;
        if (!sameMachine || Host.BootId is null || here.BootId is null)
        {
            return ProcessProof.Unknown;
        }

        // A machine that was cloned has its machine-id, and a boot of its own.
        if (Host.BootId != here.BootId)
        {
            return Host.Name == here.Name ? ProcessProof.Dead : ProcessProof.Unknown;
        }

        if (Host.PidSpace != here.PidSpace)
        {
            return ProcessProof.Unknown;
        }

        // A zombie has closed everything; its parent has not asked for it yet.
        return look(Pid) is { } found && found.StartTime == StartTime && found.State is not ('Z' or 'X') ? ProcessProof.Alive : ProcessProof.Dead;
    }

    /// <summary>What people call it.</summary>
    public override string ToString() => Pid == 0 ? Monitor : string.Create(CultureInfo.InvariantCulture, $"{Monitor} (pid {Pid})");

    private static (char State, long StartTime)? Look(int pid)
    {
        if (ProcFiles.StartTime(pid) is not { } start || ProcFiles.Read(pid, "stat") is not { } stat)
        {
            return null;
        }

        int end = stat.LastIndexOf(')');
        return end >= 0 && end + 2 < stat.Length ? (stat[end + 2], start) : null;
    }
}
