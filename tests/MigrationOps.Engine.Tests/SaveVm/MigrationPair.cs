using System.Net.Sockets;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>
/// A source and a target driver on two threads, connected by real sockets through a relay that may cut the connection after a number of
/// bytes from the source.
/// </summary>
internal sealed class MigrationPair
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    internal CallLog Log { get; } = new();

    internal SaveVmRegistry Source { get; } = new();

    internal SaveVmRegistry Target { get; } = new();

    internal SaveVmSourceOptions SourceOptions { get; set; } = new() { ReturnPath = true, Turn = TimeSpan.FromMilliseconds(5) };

    internal SaveVmTargetOptions TargetOptions { get; set; } = new() { ReturnPath = true };

    /// <summary>
    /// The deadline of either side. Only the one that is to run out of time has a short one: on a busy machine the other one would be as
    /// slow, and fail first.
    /// </summary>
    internal TimeSpan SourceTimeout { get; set; } = Patience;

    internal TimeSpan TargetTimeout { get; set; } = Patience;

    internal CancellationToken SourceCancellation { get; set; }

    internal CancellationToken TargetCancellation { get; set; }

    internal long? CutAfter { get; set; }

    /// <summary>The connection is cut after this many bytes of the target's answers.</summary>
    internal long? CutAnswersAfter { get; set; }

    /// <summary>From this byte of the source on the relay keeps what comes to itself, and calls <see cref="OnHold"/>.</summary>
    internal long? HoldAfter { get; set; }

    /// <summary>The same for the target's answers.</summary>
    internal long? HoldAnswersAfter { get; set; }

    internal Action? OnHold { get; set; }

    /// <summary>What the target says to the bytes before the cut still gets through.</summary>
    internal bool AnswersOutliveTheCut { get; set; }

    internal MigrationStreamTransfer? SourceResult { get; private set; }

    internal MigrationStreamTransfer? TargetResult { get; private set; }

    internal Exception? SourceFailure { get; private set; }

    internal Exception? TargetFailure { get; private set; }

    /// <summary>What the source sent.</summary>
    internal byte[] Sent { get; private set; } = [];

    /// <summary>What the target answered.</summary>
    internal byte[] Answered { get; private set; } = [];

    /// <summary>The drivers of the last run, which may be paused.</summary>
    internal SaveVmSource? SourceDriver { get; private set; }

    internal SaveVmTarget? TargetDriver { get; private set; }

    internal MigrationPair()
        => SourceOptions = SourceOptions with { StopDevice = () => Log.Add("stop"), ResumeDevice = () => Log.Add("resume") };

    /// <summary>Switches to postcopy before the first round.</summary>
    internal MigrationPair Postcopy()
    {
        SourceOptions = SourceOptions with { Postcopy = true, PostcopyAfter = 0, DowntimeLimit = TimeSpan.Zero };
        TargetOptions = TargetOptions with { Postcopy = true, StartDevice = () => Log.Add("start") };
        return this;
    }

    internal (ScriptedDevice Source, ScriptedDevice Target) Device(string name, SaveVmHandler offered, byte[]? state = null)
    {
        var source = new ScriptedDevice(name, Log, offered) { State = state ?? [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] };
        var target = new ScriptedDevice(name, Log, offered);
        Source.Register(name, SaveVmRegistry.AnyInstance, 1, source);
        Target.Register(name, SaveVmRegistry.AnyInstance, 1, target);
        source.Arrived = () => target.Loaded.Length;
        return (source, target);
    }

    internal MigrationPair Run()
    {
        SourceDriver = new SaveVmSource(Source, SourceOptions);
        TargetDriver = new SaveVmTarget(Target, TargetOptions);
        return Connected(SourceDriver.Run, TargetDriver.Run);
    }

    /// <summary>Both sides continue a paused migration over a new connection.</summary>
    internal MigrationPair Resume()
        => Connected((open, scope) => SourceDriver!.Resume(open, scope), (open, scope) => TargetDriver!.Resume(open, scope));

    internal MigrationPair Succeed() => Run().AssertSucceeded();

    internal MigrationPair AssertSucceeded()
    {
        Assert.True(SourceFailure is null, SourceFailure?.ToString());
        Assert.True(TargetFailure is null, TargetFailure?.ToString());
        return this;
    }

    private MigrationPair Connected(Func<Func<TransferScope, Stream>, TransferScope, MigrationStreamTransfer> send,
        Func<Func<TransferScope, Stream>, TransferScope, MigrationStreamTransfer> receive)
    {
        (SourceFailure, TargetFailure, SourceResult, TargetResult) = (null, null, null, null);
        using var front = Listen(out var frontEndpoint);
        using var back = Listen(out var backEndpoint);
        // A target's deadline counts from the source's first bytes, not from how long this machine takes to start a source.
        using var speaks = new ManualResetEventSlim();
        var target = Start("target", () =>
        {
            speaks.Wait(Patience);
            TargetResult = Drive(receive, backEndpoint, TargetTimeout, TargetCancellation);
        }, e => TargetFailure = e);
        var source = Start("source", () => SourceResult = Drive(send, frontEndpoint, SourceTimeout, SourceCancellation), e => SourceFailure = e);
        Relay(front, back, speaks);
        Assert.True(source.Join(2 * Patience) && target.Join(2 * Patience), "A side hangs.");
        return this;
    }

    private static MigrationStreamTransfer Drive(Func<Func<TransferScope, Stream>, TransferScope, MigrationStreamTransfer> run, Endpoint endpoint, TimeSpan timeout, CancellationToken cancellation)
    {
        using var scope = new TransferScope(timeout, cancellation);
        Stream? connection = null;
        try
        {
            return run(inner => connection = Transport.Connect(endpoint, TransportSecurity.Default, inner), scope);
        }
        finally
        {
            if (connection is null)
            {
                // The relay waits for a connection even if the driver failed before it opened one.
                using var late = new TransferScope(Patience);
                connection = Transport.Connect(endpoint, TransportSecurity.Default, late);
            }

            connection.Dispose();
        }
    }

    private static Socket Listen(out Endpoint endpoint)
    {
        string name = "mo-test-" + Guid.NewGuid().ToString("N");
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint("\0" + name));
        socket.Listen(1);
        endpoint = new Endpoint.Unix("@" + name);
        return socket;
    }

    private static Thread Start(string name, Action body, Action<Exception> failed)
    {
        var thread = new Thread(() =>
        {
            try
            {
                body();
            }
            catch (Exception e)
            {
                failed(e);
            }
        })
        { Name = name, IsBackground = true };
        thread.Start();
        return thread;
    }

    private void Relay(Socket front, Socket back, ManualResetEventSlim speaks)
    {
        using var source = front.Accept();
        source.Poll(CutAfter == 0 ? TimeSpan.Zero : Patience, SelectMode.SelectRead);
        speaks.Set();
        using var target = back.Accept();
        var answered = new MemoryStream();
        Exception? failure = null;
        var answers = Start("answers", () =>
        {
            Copy(target, source, CutAnswersAfter ?? HoldAnswersAfter, answered, CutAnswersAfter is null ? OnHold : null);
            if (CutAnswersAfter is not null)
            {
                Shut(source, SocketShutdown.Both);
                Shut(target, SocketShutdown.Both);
            }
        }, e => failure = e);
        var sent = new MemoryStream();
        Copy(source, target, CutAfter ?? HoldAfter, sent, CutAfter is null ? OnHold : null);
        Sent = sent.ToArray();
        if (CutAfter is not null && AnswersOutliveTheCut)
        {
            answers.Join();
        }

        if (CutAfter is not null)
        {
            Shut(source, SocketShutdown.Both);
            Shut(target, SocketShutdown.Both);
        }

        answers.Join();
        Assert.True(failure is null, failure?.ToString());
        Answered = answered.ToArray();
    }

    private static void Copy(Socket from, Socket to, long? limit, MemoryStream copy, Action? atLimit)
    {
        byte[] buffer = new byte[64 << 10];
        long left = limit ?? long.MaxValue;
        try
        {
            while (left > 0)
            {
                int count = from.Receive(buffer, 0, (int)Math.Min(left, buffer.Length), SocketFlags.None);
                if (count == 0)
                {
                    break;
                }

                copy.Write(buffer, 0, count);
                left -= count;
                to.Send(buffer, 0, count, SocketFlags.None);
            }

            if (left == 0 && atLimit is not null)
            {
                atLimit();
                while (from.Receive(buffer) > 0)
                {
                }
            }
        }
        catch (SocketException)
        {
            // A side is gone; the other one is told below.
        }

        Shut(to, SocketShutdown.Send);
    }

    private static void Shut(Socket socket, SocketShutdown how)
    {
        try
        {
            socket.Shutdown(how);
        }
        catch (SocketException)
        {
            // Already gone.
        }
    }
}
