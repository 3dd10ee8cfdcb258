using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>Both directions of a TLS connection at once: the stream, and the target's answers.</summary>
public sealed class TlsReturnPathTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly TestCertificates _authority = new();
    private readonly CallLog _log = new();
    private readonly SaveVmRegistry _source = new();
    private readonly SaveVmRegistry _target = new();

    public void Dispose()
    {
        _authority.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void The_acknowledgement_and_the_last_word_come_back_through_tls()
    {
        var (source, target) = Device(1_000_000);
        target.On(SaveVmHandler.LoadState, (context, _) => context.ApproveSwitchover());
        var (sent, received) = Migrate(TimeSpan.FromSeconds(60), new SaveVmSourceOptions { ReturnPath = true, SwitchoverAck = true });
        Assert.Equal(source.State, target.Loaded);
        Assert.True(sent!.Confirmed && sent.SwitchoverAcknowledged && received!.SwitchoverAcknowledged);
    }

    [Fact]
    public void A_target_that_has_nothing_to_say_for_longer_than_the_deadline_is_still_heard_at_the_end()
    {
        var timeout = TimeSpan.FromSeconds(2);
        var (source, target) = Device(60_000);
        target.On(SaveVmHandler.LoadState, (context, _) => context.ApproveSwitchover());
        // Six seconds of sending, during which the source's reads of the answers run out of time again and again.
        var (sent, _) = Migrate(timeout, new SaveVmSourceOptions
        {
            ReturnPath = true,
            SwitchoverAck = true,
            MaxBandwidth = 10_000,
            DowntimeLimit = TimeSpan.Zero,
        });
        Assert.Equal(source.State, target.Loaded);
        Assert.True(sent!.Confirmed);
        Assert.True(sent.Duration > timeout, sent.Duration.ToString());
    }

    [Fact]
    public void A_target_that_fails_says_so_through_tls()
    {
        var (_, target) = Device(100_000);
        target.On(SaveVmHandler.SwitchoverStart, (_, _) => throw new InvalidDataException("broken on purpose"));
        target.On(SaveVmHandler.LoadState, (context, _) => context.ApproveSwitchover());
        var failure = Assert.Throws<SaveVmException>(() => Migrate(TimeSpan.FromSeconds(60), new SaveVmSourceOptions { ReturnPath = true, SwitchoverAck = true }));
        Assert.Equal(SaveVmError.TargetFailed, failure.Reason);
        Assert.Equal((1, 1), (_log.Count("d.SaveCleanup"), _log.Count("d.LoadCleanup")));
    }

    private (ScriptedDevice Source, ScriptedDevice Target) Device(int size)
    {
        byte[] state = new byte[size];
        new Random(1).NextBytes(state);
        var source = new ScriptedDevice("d", _log, ScriptedDevice.Live) { State = state, Piece = 10_000 };
        var target = new ScriptedDevice("d", _log, ScriptedDevice.Live | SaveVmHandler.SwitchoverAckNeeded);
        _source.Register("d", 0, 1, source);
        _target.Register("d", 0, 1, target);
        return (source, target);
    }

    private (MigrationStreamTransfer? Sent, MigrationStreamTransfer? Received) Migrate(TimeSpan timeout, SaveVmSourceOptions options)
    {
        var security = new TransportSecurity(_authority.WriteBoth(_folder.File("tls")));
        using var scope = new TransferScope(timeout);
        using var targetScope = new TransferScope(TimeSpan.FromSeconds(60));
        using var listener = Transport.Listen(new Endpoint.Tcp("127.0.0.1", 0), security, targetScope);
        var receiving = Task.Factory.StartNew(() =>
        {
            Stream? connection = null;
            try
            {
                return new SaveVmTarget(_target, new SaveVmTargetOptions { ReturnPath = true, SwitchoverAck = true })
                    .Run(_ => connection = listener.Accept("the source"), targetScope);
            }
            finally
            {
                connection?.Dispose();
            }
        }, TaskCreationOptions.LongRunning);
        MigrationStreamTransfer sent;
        try
        {
            sent = SaveVmTransfer.Send(_source, listener.Endpoint, security, options, scope);
        }
        finally
        {
            Assert.True(Task.WaitAny([receiving], TimeSpan.FromSeconds(30)) == 0, "The target hangs.");
        }

        return (sent, receiving.GetAwaiter().GetResult());
    }
}
