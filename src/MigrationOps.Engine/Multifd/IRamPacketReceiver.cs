using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Multifd;

/// <summary>Takes the pages of RAM that come over multifd channels, on the channels' threads, several at once.</summary>
internal interface IRamPacketReceiver
{
    /// <summary>Takes one packet: reads its fixed part and exactly its data from the channel.</summary>
    /// <param name="packet">What its fixed part says; valid until the channel is read.</param>
    /// <param name="size">Length of the fixed part, which is buffered.</param>
    /// <param name="channel">The channel, at the packet's first byte.</param>
    void Receive(in RamPacket packet, int size, ChannelReader channel);

    /// <summary>The channel has come to a SYNC: what follows on it may be newer than what still comes on others, and has to wait for them.</summary>
    void Sync();
}
