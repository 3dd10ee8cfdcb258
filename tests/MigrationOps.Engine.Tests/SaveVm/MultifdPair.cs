using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>A source and a target driver on two threads, with multifd channels over real sockets.</summary>
internal sealed class MultifdPair
{
    private Endpoint _endpoint = new Endpoint.Unix("@mo-multifd-" + Guid.NewGuid().ToString("N"));
    private readonly TaskCompletionSource _connects = new();

    internal CallLog Log { get; } = new();

    internal SaveVmRegistry Source { get; } = new();

    internal SaveVmRegistry Target { get; } = new();

    internal int SourceChannels { get; init; } = 3;

    internal int TargetChannels { get; init; } = 3;

    internal bool ReturnPath { get; init; } = true;

    /// <summary>Options beside those that the pair sets.</summary>
    internal Func<SaveVmSourceOptions, SaveVmSourceOptions> SourceWith { get; init; } = options => options;

    internal Func<SaveVmTargetOptions, SaveVmTargetOptions> TargetWith { get; init; } = options => options;

    /// <summary>A directory with certificates, for TLS over TCP.</summary>
    internal string? Tls { get; init; }

    /// <summary>One for each side: if both are short, it is chance which of them is the first to give up.</summary>
    internal TimeSpan SourceTimeout { get; init; } = TimeSpan.FromSeconds(60);

    internal TimeSpan TargetTimeout { get; init; } = TimeSpan.FromSeconds(60);

    internal CancellationToken SourceCancellation { get; init; }

    internal CancellationToken TargetCancellation { get; init; }

    /// <summary>In which order the target sees the connections, given how many there are.</summary>
    internal Func<int, IEnumerable<int>>? Order { get; init; }

    /// <summary>Stands in for the source driver: gets the way to connect.</summary>
    internal Action<Func<TransferScope, Stream>, TransferScope>? InsteadOfSource { get; init; }

    internal MigrationStreamTransfer? SourceResult { get; private set; }

    internal MigrationStreamTransfer? TargetResult { get; private set; }

    internal Exception? SourceFailure { get; private set; }

    internal Exception? TargetFailure { get; private set; }

    internal (PacketDevice Source, PacketDevice Target) Device(string name, PacketDevice source, PacketDevice target)
    {
        Source.Register(name, 0, 1, source);
        Target.Register(name, 0, 1, target);
        return (source, target);
    }

    internal MultifdPair Run()
    {
        using var listening = new TransferScope(TargetTimeout, TargetCancellation);
        _endpoint = Tls is null ? _endpoint : new Endpoint.Tcp("127.0.0.1", 0);
        using var listener = Transport.Listen(_endpoint, new TransportSecurity(Tls), listening);
        _endpoint = listener.Endpoint;
        var source = new Thread(() =>
        {
            SourceFailure = Catch(RunSource);
            _connects.TrySetResult();
        })
        { IsBackground = true };
        source.Start();
        // The target's deadline does not count how long this machine takes to start a source.
        _connects.Task.Wait(TimeSpan.FromSeconds(60));
        TargetFailure = Catch(() => RunTarget(listener));
        listener.Dispose();
        Assert.True(source.Join(TimeSpan.FromSeconds(120)), "The source hangs.");
        return this;
    }

    internal MultifdPair Succeed()
    {
        Run();
        Assert.True(SourceFailure is null, SourceFailure?.ToString());
        Assert.True(TargetFailure is null, TargetFailure?.ToString());
        return this;
    }

    private static Exception? Catch(Action action)
    {
        try
        {
            action();
            return null;
        }
        catch (Exception e)
        {
            return e;
        }
    }

    private void RunSource()
    {
        using var scope = new TransferScope(SourceTimeout, SourceCancellation);
        var connections = new List<Stream>();
        Stream Connect(TransferScope inner)
        {
            if (Tls is not null)
            {
                // It ends only with the target's handshake.
                _connects.TrySetResult();
            }

            connections.Add(Transport.Connect(_endpoint, new TransportSecurity(Tls), inner));
            _connects.TrySetResult();
            return connections[^1];
        }

        try
        {
            if (InsteadOfSource is { } play)
            {
                play(Connect, scope);
                return;
            }

            SourceResult = new SaveVmSource(Source, SourceWith(new SaveVmSourceOptions
            {
                MultifdChannels = SourceChannels,
                ReturnPath = ReturnPath,
                StopDevice = () => Log.Add("stop"),
                ResumeDevice = () => Log.Add("resume"),
            })).Run(Connect, scope);
        }
        finally
        {
            connections.ForEach(c => c.Dispose());
        }
    }

    private void RunTarget(Listener listener)
    {
        using var scope = new TransferScope(TargetTimeout, TargetCancellation);
        var connections = new List<Stream>();
        Queue<Stream>? reordered = null;
        Stream Accept()
        {
            connections.Add(listener.Accept("the source"));
            return connections[^1];
        }

        try
        {
            TargetResult = new SaveVmTarget(Target, TargetWith(new SaveVmTargetOptions { MultifdChannels = TargetChannels, ReturnPath = true })).Run(_ =>
            {
                if (Order is null)
                {
                    return Accept();
                }

                if (reordered is null)
                {
                    Stream[] all = [.. Enumerable.Range(0, TargetChannels + 1).Select(_ => Accept())];
                    reordered = new Queue<Stream>(Order(all.Length).Select(i => all[i]));
                }

                return reordered.Dequeue();
            }, scope);
        }
        finally
        {
            connections.ForEach(c => c.Dispose());
        }
    }
}
