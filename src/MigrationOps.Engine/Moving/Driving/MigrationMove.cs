using System.Diagnostics;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Moving;

/// <summary>How a move ended: what is to be shown, and the failure if it was one.</summary>
internal sealed record MoveEnd(QemuMigrationResult Result, MoveException? Failure);

/// <summary>
/// Moves a VM from one QEMU to another so that exactly one of them runs it, whatever fails on the way.
/// </summary>
/// <remarks>
/// The target takes 'stop' before it listens, so that the end of the stream does not start it. The source says 'completed' only when the target
/// has said over the return path that it has everything; from then on it does not run again by itself. Then the commit is
/// made durable in the journal, and only then the target gets 'cont'. Before the commit the source may be continued, after
/// it never. <c>docs/moving.md</c> has the whole argument.
/// </remarks>
[System.Diagnostics.CodeAnalysis.SuppressMessage("Design", "CA1001", Justification = "The source of the cancellation has no timer and no wait handle, so there is nothing to dispose.")]
internal sealed partial class MigrationMove(MoveOptions options)
{
    private readonly QmpMonitor _source = options.Source;
    private readonly QmpMonitor? _target = options.Target;
    private readonly MovePhaseMachine _phase = new();
    private readonly SideSettings _sourceSettings = new(options.Source);
    private readonly SideSettings? _targetSettings = options.Target is null ? null : new SideSettings(options.Target);
    private readonly List<string> _actions = [];
    private readonly List<string> _notes = [];
    private readonly CancellationTokenSource _cancel = new();
    private readonly TaskCompletionSource _continue = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly DateTime _startedAt = DateTime.UtcNow;
    private readonly Guid _id = Guid.NewGuid();
    private MoveJournal? _journal;
    private MoveIntent? _intent;
    private QemuMigrationStatus? _lastSample;
    private DowntimeClock? _downtime;
    private string? _targetError;
    private bool _incomingStarted;
    private bool _migrateSent;
    private bool _armed;
    private bool _committed;
    private bool _postcopyWanted;

    /// <summary>Where it is.</summary>
    internal MovePhase Phase => _phase.Current;

    /// <summary>Gives the migration up, if the VM has not moved yet.</summary>
    internal void Cancel() => _cancel.Cancel();

    /// <summary>The word that a held migration waits for.</summary>
    internal void Continue() => _continue.TrySetResult();

    /// <summary>Lets the guest run on the target as soon as that is possible.</summary>
    internal void SwitchToPostcopy() => Volatile.Write(ref _postcopyWanted, true);

    /// <summary>Moves the VM. It returns when one side has the VM for good, or when it is known that this is not known.</summary>
    /// <param name="cancellationToken">Gives the migration up, if the VM has not moved yet; then it is still waited until the source runs.</param>
    /// <exception cref="MigrationOpsException">Nothing was changed at either side.</exception>
    internal async Task<MoveEnd> RunAsync(CancellationToken cancellationToken)
    {
        using var cancel = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _cancel.Token);
        _intent = await PrepareAsync(cancel.Token).ConfigureAwait(false);
        using var journal = _journal = MoveJournal.Create(options.JournalPath ?? MoveJournal.NewPath(_intent.VM, _id));
        MoveException? failure = null;
        try
        {
            await AppendAsync(new MoveRecord { Record = MoveRecordKind.Intent, Intent = _intent }).ConfigureAwait(false);
            await StartAsync(cancel.Token).ConfigureAwait(false);
            await WatchAsync(cancel.Token).ConfigureAwait(false);
            if (options.Mode != QemuMigrationMode.File)
            {
                await CommitAsync().ConfigureAwait(false);
                await FinishPostcopyAsync().ConfigureAwait(false);
                await EndSourceAsync().ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            failure = new MoveException(MoveError.Cancelled, $"{_source.Name}: the migration was cancelled.");
        }
        catch (MoveException e)
        {
            failure = e;
        }
        catch (MigrationOpsException e)
        {
            failure = new MoveException(_migrateSent ? MoveError.MigrationFailed : MoveError.SetupRefused, e.Message, e);
        }

        if (failure is not null)
        {
            await RollBackAsync(failure).ConfigureAwait(false);
        }

        return await EndAsync(failure).ConfigureAwait(false);
    }

    // What is asked before anything is changed.
    private async Task<MoveIntent> PrepareAsync(CancellationToken cancellationToken)
    {
        CheckOptions();
        var source = await MoveSide.TakeAsync(_source, cancellationToken).ConfigureAwait(false);
        var answer = await SideAnswer.AskAsync(_source, null, cancellationToken).ConfigureAwait(false);
        if (answer.RunState is not ("running" or "paused" or "suspended" or "prelaunch"))
        {
            throw new MoveException(MoveError.SourceState, $"{_source.Name}: expected a VM that runs or is paused, found '{answer.RunState}'.") { Target = _source.Name };
        }

        if (answer.IsMigrating || answer.IsPostcopy)
        {
            throw new QmpException(QmpError.MigrationRunning, $"{_source.Name}: a migration is under way ('{answer.Migration}').") { Target = _source.Name };
        }

        var status = await _source.ExecuteAsync("query-migrate", cancellationToken: cancellationToken).ConfigureAwait(false);
        if (status.Texts("blocked-reasons") is { Length: > 0 } reasons)
        {
            throw new MoveException(MoveError.Blocked, $"{_source.Name}: QEMU forbids a migration now: {string.Join("; ", reasons)}") { Target = _source.Name };
        }

        var target = _target is null ? null : await PrepareTargetAsync(source, cancellationToken).ConfigureAwait(false);
        return new MoveIntent
        {
            Move = _id,
            VM = _source.VMName ?? (await _source.ExecuteAsync("query-name", cancellationToken: cancellationToken).ConfigureAwait(false)).Text("name"),
            Mode = options.Mode,
            Source = source,
            Target = target,
            WasPaused = !answer.Runs && answer.RunState != "suspended",
            KeepSource = options.KeepSource,
            Controller = Environment.ProcessId,
        };
    }

    private void CheckOptions()
    {
        foreach (var monitor in new[] { _source, _target }.OfType<QmpMonitor>())
        {
            if (monitor.Options.ReadOnly || monitor.Options.Lease)
            {
                throw new MoveException(MoveError.InvalidOption, $"{monitor.Name}: a move needs a monitor that is connected for as long as it takes, and for writing.",
                    action: "Connect the monitor without a lease and for writing. A VM of a manager is moved by the manager.");
            }
        }

        if (options.Uri is { } uri)
        {
            var endpoint = Endpoint.Parse(uri);
            if (endpoint is Endpoint.File != (options.Mode == QemuMigrationMode.File))
            {
                throw new MoveException(MoveError.InvalidOption, $"'{uri}' does not fit the mode {options.Mode}.", action: "Give file:PATH with the mode File, and tcp: or unix: otherwise.");
            }

            new TransportSecurity(options.TlsDirectory, options.AllowPlaintext).Check(endpoint);
        }
        else if (options.Mode == QemuMigrationMode.File)
        {
            throw new MoveException(MoveError.InvalidOption, "The mode File needs a file.", action: "Give file:PATH.");
        }
        else if ((_source.Peer?.Pid ?? 0) == 0 || (_target?.Peer?.Pid ?? 0) == 0)
        {
            throw new MoveException(MoveError.InvalidOption, "The two monitors are not both of this host, so that the target's address has to be given.",
                action: "Say where the target listens: tcp:HOST:0 takes any free port.");
        }
    }

    private async Task<MoveSide> PrepareTargetAsync(MoveSide source, CancellationToken cancellationToken)
    {
        var target = await MoveSide.TakeAsync(_target!, cancellationToken).ConfigureAwait(false);
        if (source.Pid != 0 && source.Host == target.Host && source.Pid == target.Pid)
        {
            throw new MoveException(MoveError.WrongPair, $"Source and target are the same process ({source.Pid}).") { Target = _target!.Name };
        }

        if (source.Uuid != target.Uuid)
        {
            throw new MoveException(MoveError.WrongPair, $"The source is the VM {source.Uuid ?? "without UUID"}, the target {target.Uuid ?? "one without UUID"}.",
                action: "Give the monitor of the QEMU that was started for this VM, with the same -uuid.")
            { Target = _target!.Name };
        }

        var answer = await SideAnswer.AskAsync(_target!, null, cancellationToken).ConfigureAwait(false);
        return answer is { RunState: "inmigrate", Migration: null or "none" } ? target
            : throw new MoveException(MoveError.TargetState, $"{_target!.Name}: expected a QEMU that waits for its first migration (inmigrate), found '{answer}'.") { Target = _target!.Name };
    }

    private async Task StartAsync(CancellationToken cancellationToken)
    {
        if (_target is not null)
        {
            // To a QEMU that waits for a migration this says: do not start at its end, whatever the command line had.
            await _target.ExecuteAsync("stop", cancellationToken: cancellationToken).ConfigureAwait(false);
            _armed = true;
            await AppendAsync(new MoveRecord { Record = MoveRecordKind.Armed }).ConfigureAwait(false);
        }

        await SetUpAsync(cancellationToken).ConfigureAwait(false);
        string uri = options.Uri ?? "tcp:127.0.0.1:0";
        if (_target is not null)
        {
            uri = await ListenAsync(uri, cancellationToken).ConfigureAwait(false);
            uri = options.Route is null ? uri : await options.Route(uri).ConfigureAwait(false);
        }

        await AppendAsync(new MoveRecord { Record = MoveRecordKind.Started, Note = uri }).ConfigureAwait(false);
        await EnterAsync(MovePhase.Copying).ConfigureAwait(false);
        _downtime = new DowntimeClock(_source, _target);
        _migrateSent = true;
        await _source.ExecuteAsync("migrate", new JsonObject { ["uri"] = uri }, cancellationToken).ConfigureAwait(false);
    }

    private async Task<string> ListenAsync(string uri, CancellationToken cancellationToken)
    {
        var arguments = new JsonObject { ["uri"] = uri };
        if ((await _target!.GetSchemaAsync(cancellationToken).ConfigureAwait(false)).HasArgument("migrate-incoming", "exit-on-error"))
        {
            // A target that stays can be asked why it failed.
            arguments["exit-on-error"] = false;
        }

        _incomingStarted = true;
        await _target.ExecuteAsync("migrate-incoming", arguments, cancellationToken).ConfigureAwait(false);
        if (Endpoint.Parse(uri) is not Endpoint.Tcp { Port: 0 } tcp)
        {
            return uri;
        }

        var status = await _target.ExecuteAsync("query-migrate", cancellationToken: cancellationToken).ConfigureAwait(false);
        return status.Items("socket-address").Select(address => address.Text("port")).FirstOrDefault(port => port is not null) is { } real
            && int.TryParse(real, System.Globalization.CultureInfo.InvariantCulture, out int number)
            ? (tcp with { Port = number }).ToString()
            : throw new MoveException(MoveError.SetupRefused, $"{_target.Name}: expected the port on which the target listens, found none in query-migrate.") { Target = _target.Name };
    }

    private async Task SetUpAsync(CancellationToken cancellationToken)
    {
        bool postcopy = options.AllowPostcopy || options.OnStall.Contains(MigrationStallAction.Postcopy);
        bool throttle = options.OnStall.Contains(MigrationStallAction.Throttle);
        bool hasTarget = _target is not null;
        var both = new Dictionary<string, bool>(StringComparer.Ordinal)
        {
            ["events"] = true,
            ["return-path"] = hasTarget,
            ["multifd"] = options.Channels > 0,
            ["postcopy-ram"] = postcopy && hasTarget,
        };
        var source = new Dictionary<string, bool>(both, StringComparer.Ordinal) { ["pause-before-switchover"] = options.Hold, ["auto-converge"] = throttle };

        // Without this a target that is not let go yet holds the locks of the disks, and the source cannot have them back.
        var target = new Dictionary<string, bool>(both, StringComparer.Ordinal) { ["late-block-activate"] = true };
        await _sourceSettings.SetCapabilitiesAsync(source, cancellationToken).ConfigureAwait(false);
        await (_targetSettings?.SetCapabilitiesAsync(target, cancellationToken) ?? Task.CompletedTask).ConfigureAwait(false);
        foreach (string needed in both.Where(state => state.Value).Select(state => state.Key))
        {
            if (!_sourceSettings.Known.Contains(needed) || _targetSettings?.Known.Contains(needed) == false)
            {
                throw new MoveException(MoveError.InvalidOption, $"A QEMU of the two lacks the migration capability '{needed}'.");
            }
        }

        await SetParametersAsync(throttle, cancellationToken).ConfigureAwait(false);
    }

    private async Task SetParametersAsync(bool throttle, CancellationToken cancellationToken)
    {
        var source = new JsonObject
        {
            ["max-bandwidth"] = options.MaxBandwidth ?? 1L << 50,
            ["downtime-limit"] = (long)options.DowntimeLimit.TotalMilliseconds,
        };
        var target = new JsonObject();
        if (options.SwitchoverBandwidth is { } bandwidth)
        {
            source["avail-switchover-bandwidth"] = bandwidth;
        }

        if (throttle)
        {
            // It is there from the start, and takes next to nothing until the action raises it.
            source["cpu-throttle-initial"] = 1;
            source["cpu-throttle-increment"] = 1;
            source["max-cpu-throttle"] = 1;
        }

        foreach (var side in new[] { source, target })
        {
            if (options.Channels > 0)
            {
                side["multifd-channels"] = options.Channels;
                side["multifd-compression"] = options.Compression ?? "none";
            }
        }

        if (options.TlsDirectory is { } directory)
        {
            source["tls-creds"] = await _sourceSettings.AddCredentialsAsync(directory, isServer: false, cancellationToken).ConfigureAwait(false);
            source["tls-hostname"] = options.TlsHostName ?? "";
            if (_targetSettings is not null)
            {
                target["tls-creds"] = await _targetSettings.AddCredentialsAsync(directory, isServer: true, cancellationToken).ConfigureAwait(false);
            }
        }

        await _sourceSettings.SetParametersAsync(source, cancellationToken).ConfigureAwait(false);
        if (target.Count > 0 && _targetSettings is not null)
        {
            await _targetSettings.SetParametersAsync(target, cancellationToken).ConfigureAwait(false);
        }
    }

    private async Task EnterAsync(MovePhase phase)
    {
        if (_phase.Enter(phase))
        {
            await AppendAsync(new MoveRecord { Record = MoveRecordKind.Phase, Phase = phase }).ConfigureAwait(false);
        }
    }

    private async Task AppendAsync(params MoveRecord[] records)
    {
        _journal!.Append(records);
        if (options.OnRecord is not null)
        {
            foreach (var record in records)
            {
                await options.OnRecord(record).ConfigureAwait(false);
            }
        }
    }
}
