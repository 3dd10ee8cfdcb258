using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The end of pre-copy, while the device stands still: END sections, with a worker per device beside them that sends packets over the
/// multifd channels; FULL sections; the end mark and the description; the target's word.
/// </summary>
internal sealed class PrecopyCompletion(SourceSession session, OutgoingChannels? channels, ILogger logger)
{
    /// <summary>Runs it.</summary>
    /// <returns>The parts of the downtime.</returns>
    internal MigrationDowntime Run()
    {
        SaveVmLog.Phase(logger, "switchover");
        session.Output.EndTurns();
        var clock = new PartClock();
        session.StopDevice();
        var switchover = clock.Next();
        SendIterative();
        var finalIteration = clock.Next();
        session.Sections.Each(SaveVmHandler.SaveState, session.Sections.SaveFull);
        var state = clock.Next();
        SendEnd();
        var send = clock.Next();
        session.ReturnPath.AwaitEnd();
        if (session.Options.ReturnPath)
        {
            channels?.CheckRead();
        }

        SaveVmLog.Phase(logger, "completed");
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
        var (output, sections) = (session.Output, session.Sections);
        if (session.Options.SwitchoverStart)
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
        channels?.Join(session.ReturnPath);
    }

    private void SendEnd()
    {
        ElementWriter.Eof(session.Output);
        if (session.Options.Description)
        {
            session.Output.Write(session.Sections.EndDescription());
        }

        session.Output.Flush();
    }
}
