using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>One load of a stream by a QEMU that waits for it.</summary>
internal sealed class RehearsalRun(RehearsalOptions options, StreamContents contents, QemuProcess qemu, string socketPath, TransferScope scope)
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(10);

    private string _description = "";

    /// <summary>What the verdict depends on.</summary>
    internal List<string> Notes { get; } = [];

    /// <summary>Bytes that QEMU took.</summary>
    internal long BytesGiven { get; private set; }

    /// <summary>What QEMU said, without what a successful load says.</summary>
    internal string[] Words => [.. qemu.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
        .Concat(_description.Length > 0 && !qemu.Output.Contains(_description, StringComparison.Ordinal) ? [_description] : [])];

    /// <summary>Gives QEMU the stream; true if it loaded it and still lives.</summary>
    internal async Task<bool> LoadAsync()
    {
        var cancellationToken = scope.CancellationToken;
        var pages = options.SkipMemory ? await ReadPagesAsync(cancellationToken).ConfigureAwait(false) : null;
        await ListenAsync(cancellationToken).ConfigureAwait(false);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var feed = Task.Run(() => Feed(pages, end.Token), CancellationToken.None);
        try
        {
            bool loaded = await WaitForVerdictAsync(feed, cancellationToken).ConfigureAwait(false);

            // What it printed last is on its way until it has ended.
            qemu.Kill();
            await qemu.Exited.WaitAsync(options.Timeout, cancellationToken).ConfigureAwait(false);
            return loaded;
        }
        finally
        {
            await end.CancelAsync().ConfigureAwait(false);
            await feed.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    // Where guest addresses lie, the QEMU knows that will load them.
    private async Task<RehearsalPages> ReadPagesAsync(CancellationToken cancellationToken)
    {
        var addresses = VirtioRings.FindAddresses(contents);
        string layout = addresses.Count == 0 ? "" : (await qemu.Monitor.ExecuteAsync("human-monitor-command",
            new JsonObject { ["command-line"] = "info mtree -f" }, cancellationToken).ConfigureAwait(false)).GetString()!;
        var pages = RehearsalPages.Read(options.Input, contents, GuestLayout.Parse(layout, contents), addresses, scope);
        Notes.AddRange(pages.Notes.Distinct());
        return pages;
    }

    private async Task ListenAsync(CancellationToken cancellationToken)
    {
        string[] capabilities = [.. Capabilities()];
        if (capabilities.Length > 0)
        {
            Notes.Add($"Turned on here, for the stream has it: {string.Join(", ", capabilities)}. The destination needs it too, before migrate-incoming.");
            await qemu.Monitor.ExecuteAsync("migrate-set-capabilities", new JsonObject
            {
                ["capabilities"] = new JsonArray([.. capabilities.Select(name => new JsonObject { ["capability"] = name, ["state"] = true })]),
            }, cancellationToken).ConfigureAwait(false);
        }

        var arguments = new JsonObject { ["uri"] = $"unix:{socketPath}" };
        var schema = await qemu.Monitor.GetSchemaAsync(cancellationToken).ConfigureAwait(false);
        if (schema.HasArgument("migrate-incoming", "exit-on-error"))
        {
            arguments["exit-on-error"] = false;
        }

        await qemu.Monitor.ExecuteAsync("migrate-incoming", arguments, cancellationToken).ConfigureAwait(false);
    }

    // What the stream can be loaded with only.
    private IEnumerable<string> Capabilities()
    {
        if (contents.HasCapability(StreamFormat.IgnoreSharedCapability))
        {
            yield return StreamFormat.IgnoreSharedCapability;
        }

        if (!options.SkipMemory && contents.Commands.Exists(c => c.Id == StreamCommandId.PostcopyAdvise && c.Data.Length > 0))
        {
            yield return "postcopy-ram";
        }
    }

    private async Task<bool> WaitForVerdictAsync(Task feed, CancellationToken cancellationToken)
    {
        long taken = -1;
        var quiet = new Deadline(options.Timeout);
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            string? status = await GetStatusAsync(cancellationToken).ConfigureAwait(false);
            switch (status)
            {
                case "completed":
                    // The last steps come after this status: an invalid run state ends the process there.
                    return await AnswersAsync(cancellationToken).ConfigureAwait(false);
                case "failed" or null:
                    return false;
            }

            if (feed.IsFaulted && feed.Exception!.InnerException is MigrationOpsException failure and not WireException)
            {
                throw failure;
            }

            if (taken != BytesGiven)
            {
                taken = BytesGiven;
                quiet = new Deadline(options.Timeout);
            }
            else if (quiet.HasPassed)
            {
                throw new RehearsalException(RehearsalError.NoVerdict,
                    $"{options.Program} took {BytesGiven:N0} bytes of '{options.Input.Path}' and has neither loaded nor refused it within {options.Timeout.TotalSeconds:0.###} s.");
            }

            await Task.WhenAny(qemu.Exited, Task.Delay(Look, cancellationToken)).ConfigureAwait(false);
        }
    }

    /// <summary>The state of the load; null if the process has ended.</summary>
    private async Task<string?> GetStatusAsync(CancellationToken cancellationToken)
    {
        try
        {
            var answer = await qemu.Monitor.ExecuteAsync("query-migrate", null, cancellationToken).ConfigureAwait(false);
            _description = answer.Text("error-desc") ?? _description;
            return answer.Text("status") ?? "none";
        }
        catch (MigrationOpsException e) when (e is QmpException or WireException && !cancellationToken.IsCancellationRequested)
        {
            await WaitForExitAsync(e, cancellationToken).ConfigureAwait(false);
            return null;
        }
    }

    private async Task<bool> AnswersAsync(CancellationToken cancellationToken)
    {
        try
        {
            // The answer comes from the main loop, behind the load's last step.
            await qemu.Monitor.ExecuteAsync("query-status", null, cancellationToken).ConfigureAwait(false);
            await qemu.Monitor.ExecuteAsync("query-name", null, cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (MigrationOpsException e) when (e is QmpException or WireException && !cancellationToken.IsCancellationRequested)
        {
            await WaitForExitAsync(e, cancellationToken).ConfigureAwait(false);
            return false;
        }
    }

    // A monitor that is gone means a process that ends.
    private async Task WaitForExitAsync(Exception cause, CancellationToken cancellationToken)
    {
        try
        {
            await qemu.Exited.WaitAsync(options.Timeout, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            throw new RehearsalException(RehearsalError.NoVerdict, $"The monitor of {options.Program} is gone and the process has not ended: {cause.Message}", cause);
        }
    }

    private void Feed(RehearsalPages? pages, CancellationToken cancellationToken)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        using var stop = cancellationToken.UnsafeRegister(static s => ((Socket)s!).Dispose(), socket);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(socketPath));
            using var output = new CountedOutput(socket, Count);
            if (pages is null)
            {
                RehearsalFeed.WriteWhole(options.Input, output, scope);
            }
            else
            {
                RehearsalFeed.WriteWithoutMemory(contents, pages, output, scope);
            }

            socket.Shutdown(SocketShutdown.Send);

            // The return path: what it says is said by the monitor too.
            byte[] answer = new byte[4096];
            while (socket.Receive(answer) > 0)
            {
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or IOException)
        {
            // QEMU stopped reading: its monitor says why.
        }
    }

    private void Count(int bytes)
    {
        BytesGiven += bytes;
        scope.Count(bytes);
    }

    private sealed class CountedOutput(Socket socket, Action<int> count) : WriteOnlyStream
    {
        protected override void Take(ReadOnlySpan<byte> data)
        {
            while (!data.IsEmpty)
            {
                int sent = socket.Send(data);
                count(sent);
                data = data[sent..];
            }
        }
    }
}
