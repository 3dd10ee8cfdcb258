using System.Buffers.Binary;
using System.Text;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>One packet of a recorded channel, as bytes to alter.</summary>
internal sealed class RecordedPacket(byte[] head, byte[] payload)
{
    internal byte[] Head { get; } = head;

    internal byte[] Payload { get; set; } = payload;

    internal bool IsDevice => Word(Head, 8) == 0x40;

    internal uint Index
    {
        get => Word(Payload, 4);
        set => BinaryPrimitives.WriteUInt32BigEndian(Payload.AsSpan(4), value);
    }

    internal bool IsConfig => Word(Payload, 8) == 1;

    internal RecordedPacket Clone() => new([.. Head], [.. Payload]);

    internal void SetHead(int offset, uint value) => BinaryPrimitives.WriteUInt32BigEndian(Head.AsSpan(offset), value);

    internal void SetPayload(int offset, uint value) => BinaryPrimitives.WriteUInt32BigEndian(Payload.AsSpan(offset), value);

    internal void SetIdStr(string idStr)
    {
        Head.AsSpan(12, 256).Clear();
        Encoding.ASCII.GetBytes(idStr, Head.AsSpan(12));
    }

    /// <summary>Changes the payload and the size that the packet announces.</summary>
    internal void Resize(byte[] payload)
    {
        Payload = payload;
        SetHead(272, (uint)payload.Length);
    }

    internal static uint Word(byte[] bytes, int offset) => BinaryPrimitives.ReadUInt32BigEndian(bytes.AsSpan(offset));
}

/// <summary>A capture taken to pieces, so that a test can do to it what a faulty source would.</summary>
internal sealed class EditedCapture
{
    internal EditedCapture(string name)
    {
        var capture = new Capture(name);
        Main = capture.Main;
        Channels = [.. capture.Channels.Select(bytes => (bytes[..64], Split(bytes[64..])))];
    }

    internal byte[] Main { get; set; }

    internal List<(byte[] Init, List<RecordedPacket> Packets)> Channels { get; }

    internal IEnumerable<RecordedPacket> DevicePackets => Channels.SelectMany(c => c.Packets).Where(p => p.IsDevice);

    internal RecordedPacket Data => DevicePackets.First(p => !p.IsConfig);

    internal RecordedPacket Config => DevicePackets.First(p => p.IsConfig);

    internal void Remove(RecordedPacket packet) => Channels.ForEach(c => c.Packets.Remove(packet));

    internal void InsertAfter(RecordedPacket packet, RecordedPacket added)
    {
        var packets = Channels.First(c => c.Packets.Contains(packet)).Packets;
        packets.Insert(packets.IndexOf(packet) + 1, added);
    }

    internal byte[] Bytes(int channel)
        => [.. Channels[channel].Init, .. Channels[channel].Packets.SelectMany(p => p.Head.Concat(p.Payload))];

    internal IEnumerable<Stream> Streams()
        => [new MemoryStream(Main, writable: false), .. Channels.Select((_, i) => new MemoryStream(Bytes(i), writable: false))];

    private static List<RecordedPacket> Split(byte[] bytes)
    {
        var packets = new List<RecordedPacket>();
        for (int at = 0; at < bytes.Length;)
        {
            bool device = RecordedPacket.Word(bytes, at + 8) == 0x40;
            int head = device ? 276 : 1344;
            int payload = (int)RecordedPacket.Word(bytes, at + (device ? 272 : 20));
            packets.Add(new(bytes[at..(at + head)], bytes[(at + head)..(at + head + payload)]));
            at += head + payload;
        }

        return packets;
    }
}
