using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The end of pre-copy, while the device stands still: END sections, with a worker per device beside them that sends packets over the
/// multifd channels; FULL sections; the end mark and the description; the target's answer.
/// </summary>
internal sealed class PrecopyCompletion(
    SourceLink link, SourceTally tally, SaveVmSourceOptions options, SourceDevice device, OutgoingChannels? channels)
{
    /// <summary>Runs it.</summary>
    /// <returns>The parts of the downtime.</returns>
    internal MigrationDowntime Run()
    {
        link.Run.LogPhase("switchover");
        link.Output.EndTurns();
        var clock = new PartClock();
        device.Stop(link.Run.Caller, options.StopDevice);
        var switchover = clock.Next();
        SendIterative();
        var finalIteration = clock.Next();
        link.Sections.Each(SaveVmHandler.SaveState, link.Sections.SaveFull);
        var state = clock.Next();
        SendEnd();
        var send = clock.Next();
        link.ReturnPath.AwaitEnd();
        if (options.ReturnPath)
        {
            channels?.CheckRead();
        }

        link.Run.LogPhase("completed");
        return new MigrationDowntime
        {
            Switchover = switchover,
            FinalIteration = finalIteration,
            State = state,
            Send = send,
            Complete = clock.Next(),
        };
    }

    private void SendIterative()
    {
        var (output, sections) = (link.Output, link.Sections);
        if (options.SwitchoverStart)
        {
            ElementWriter.Command(output, StreamCommandId.SwitchoverStart);
        }

        if (channels is not null)
        {
            // Said before the packets overtake it.
            output.Flush();
            sections.Each(SaveVmHandler.SaveLiveCompletePrecopyThread, context => channels.StartWorker(context, () => output.Position));
        }

        sections.Each(SaveVmHandler.SaveLiveCompletePrecopy, sections.CompletePrecopy);
        channels?.Join(link.ReturnPath);
    }

    private void SendEnd()
    {
        ElementWriter.Eof(link.Output);
        if (options.Description)
        {
            link.Output.Write(tally.EndDescription());
        }

        link.Output.Flush();
    }
}
