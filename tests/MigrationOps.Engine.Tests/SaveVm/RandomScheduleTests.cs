using MigrationOps.Engine.SaveVm;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>Migrations drawn by lot: devices, limits, and one misfortune or none. A seed gives the same lot again.</summary>
public class RandomScheduleTests
{
    private static readonly SaveVmHandler[] SourceHandlers =
    [
        SaveVmHandler.SavePrepare, SaveVmHandler.SaveSetup, SaveVmHandler.SaveLiveIterate, SaveVmHandler.StatePendingEstimate,
        SaveVmHandler.StatePendingExact, SaveVmHandler.SaveLiveCompletePrecopy, SaveVmHandler.SaveState, SaveVmHandler.SaveCleanup,
    ];

    private static readonly SaveVmHandler[] TargetHandlers =
    [
        SaveVmHandler.LoadSetup, SaveVmHandler.LoadState, SaveVmHandler.SwitchoverStart, SaveVmHandler.SwitchoverAckNeeded, SaveVmHandler.LoadCleanup,
    ];

    public static TheoryData<int> Seeds => [.. Enumerable.Range(1, 60)];

    [Theory, MemberData(nameof(Seeds))]
    public void Any_schedule_with_any_misfortune_keeps_the_rules(int seed)
    {
        var lot = new Random(seed);
        var pair = new MigrationPair();
        bool ack = lot.Next(2) == 0;
        int count = lot.Next(1, 6);
        var devices = Enumerable.Range(0, count).Select(i => Draw(lot, pair, $"d{i}", ack)).ToArray();
        pair.SourceOptions = pair.SourceOptions with
        {
            SwitchoverAck = ack,
            SwitchoverStart = lot.Next(4) > 0,
            Description = lot.Next(4) > 0,
            DowntimeLimit = TimeSpan.FromMicroseconds(lot.Next(0, 50)),
            MaxBandwidth = lot.Next(2) == 0 ? lot.Next(200_000, 2_000_000) : null,
            Turn = TimeSpan.FromMilliseconds(lot.Next(1, 4)),
        };
        pair.TargetOptions = pair.TargetOptions with { SwitchoverAck = ack };
        using var cancel = new CancellationTokenSource();
        string misfortune = Befall(lot, pair, devices, cancel);
        pair.Run();
        string what = $"seed {seed}: {count} devices{(ack ? " with switchover-ack" : "")}, {misfortune}";
        MigrationRules.AssertEnded(pair, devices.Select(d => d.Name), what, answersLost: pair.CutAfter is not null);
        if (misfortune == "nothing happens")
        {
            Assert.True(pair.SourceFailure is null && pair.TargetFailure is null, $"{what}: {pair.SourceFailure} {pair.TargetFailure}");
            Assert.Equal(pair.SourceResult!.Sections, pair.TargetResult!.Sections);
            Assert.Equal(pair.Sent.Length, pair.SourceResult.Bytes);
        }

        if (pair.TargetFailure is null)
        {
            Assert.All(devices, d => Assert.True(d.Source.State.AsSpan().SequenceEqual(d.Target.Loaded), $"{what}: {d.Name} arrived changed."));
        }
    }

    private static (string Name, ScriptedDevice Source, ScriptedDevice Target) Draw(Random lot, MigrationPair pair, string name, bool ack)
    {
        bool live = lot.Next(2) == 0;
        var offered = (live ? ScriptedDevice.Live : ScriptedDevice.Whole)
            | (lot.Next(3) == 0 ? SaveVmHandler.IsActive : 0)
            | (live && lot.Next(3) == 0 ? SaveVmHandler.IsActiveIterate : 0)
            | (live && ack && lot.Next(2) == 0 ? SaveVmHandler.SwitchoverAckNeeded : 0);
        byte[] state = new byte[lot.Next(0, 3000)];
        lot.NextBytes(state);
        var source = new ScriptedDevice(name, pair.Log, offered) { State = state, Piece = lot.Next(1, 400) };
        var target = new ScriptedDevice(name, pair.Log, offered);
        int wait = lot.Next(0, 3);
        target.On(SaveVmHandler.LoadState, (context, _) =>
        {
            if (--wait < 0)
            {
                context.ApproveSwitchover();
            }
        });
        pair.Source.Register(name, SaveVmRegistry.AnyInstance, lot.Next(0, 5), source, lot.Next(-2, 3));
        pair.Target.Register(name, SaveVmRegistry.AnyInstance, 5, target, lot.Next(-2, 3));
        return (name, source, target);
    }

    private static string Befall(Random lot, MigrationPair pair, (string Name, ScriptedDevice Source, ScriptedDevice Target)[] devices, CancellationTokenSource cancel)
    {
        var (name, source, target) = devices[lot.Next(devices.Length)];
        int after = lot.Next(0, 3);
        string Throw(ScriptedDevice device, SaveVmHandler handler)
        {
            var usual = device.Before.GetValueOrDefault(handler);
            int left = after;
            device.On(handler, (context, stream) =>
            {
                if (left-- == 0)
                {
                    throw new InvalidDataException("drawn by lot");
                }

                usual?.Invoke(context, stream);
            });
            return $"{handler} of {name} throws after {after} calls";
        }

        int bytes = lot.Next(0, 2000);
        switch (lot.Next(6))
        {
            case 0:
                return Throw(source, SourceHandlers[lot.Next(SourceHandlers.Length)]);
            case 1:
                return Throw(target, TargetHandlers[lot.Next(TargetHandlers.Length)]);
            case 2:
                pair.CutAfter = bytes;
                return $"the connection is cut after {bytes} bytes";
            case 3:
                int call = lot.Next(0, 40);
                bool onSource = lot.Next(2) == 0;
                (pair.SourceCancellation, pair.TargetCancellation) = onSource ? (cancel.Token, CancellationToken.None) : (CancellationToken.None, cancel.Token);
                pair.Log.OnCall = number =>
                {
                    if (number == call)
                    {
                        cancel.Cancel();
                    }
                };
                return $"the {(onSource ? "source" : "target")} is cancelled in call {call}";
            default:
                return "nothing happens";
        }
    }
}
