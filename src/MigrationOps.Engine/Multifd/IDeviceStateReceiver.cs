using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Multifd;

/// <summary>Takes packets of device state, on the channels' threads, several at once.</summary>
internal interface IDevicePacketReceiver
{
    /// <summary>Takes one packet: reads exactly its payload from the channel.</summary>
    /// <param name="packet">The fixed part; valid until the channel is read.</param>
    /// <param name="channel">The channel, at the packet's first byte.</param>
    void Receive(in DeviceStatePacket packet, ChannelReader channel);
}

/// <summary>
/// Takes the device state that arrives over a migration's channels. Packets come on the channels' threads, several at
/// once; everything else on the main channel's thread.
/// </summary>
internal interface IDeviceStateReceiver : IDevicePacketReceiver
{
    /// <summary>An iterable device starts in the main stream; null if its sections are not wanted.</summary>
    IDeviceSections? OpenSections(StreamSection section);

    /// <summary>The main stream has come to the switchover, or to its end: no pre-copy data follows.</summary>
    /// <param name="allAnnounced">True if the stream was walked so far that every device of it is known by now.</param>
    void EndPreCopy(bool allAnnounced);

    /// <summary>True if everything that was announced has arrived.</summary>
    bool IsComplete { get; }

    /// <summary>True once the initial data of every device has arrived, which a source with switchover-ack waits for.</summary>
    bool HasInitialData { get; }

    /// <summary>How often devices have said that their initial data is there; a source that counts waits for an acknowledgement of each.</summary>
    int InitialDataMarks { get; }

    /// <summary>Called when nothing more will come: throws the failure that names what is missing.</summary>
    void Complete();
}

/// <summary>Takes what the sections of one VFIO device hold, in order.</summary>
internal interface IDeviceSections
{
    /// <summary>Data of the device, in pieces.</summary>
    /// <param name="kind">The section's kind: with pre-copy <see cref="SectionKind.Part"/>, else <see cref="SectionKind.End"/>.</param>
    /// <param name="data">The piece; valid during the call.</param>
    void Data(SectionKind kind, ReadOnlySpan<byte> data);

    /// <summary>The initial data of the device has all been sent.</summary>
    void InitialDataSent();

    /// <summary>The config state, both markers included.</summary>
    void Config(ReadOnlySpan<byte> body);
}
