using System.Buffers;
using System.Text;
using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Cpr;

/// <summary>Builds states, right ones and wrong ones, and reads captured ones.</summary>
internal static class CprBytes
{
    internal static byte[] Vector(string name) => File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Vectors/cpr", name));

    internal static byte[] Header(uint magic = 0x51435052, uint version = 1) => Build(writer =>
    {
        writer.WriteUInt32(magic);
        writer.WriteUInt32(version);
    });

    /// <summary>An element with everything chosen freely; the length is that of the name bytes unless given.</summary>
    internal static byte[] Element(string latin1Name, int id, uint? length = null, byte marker = 1, byte dummy = 0x20)
        => Build(writer =>
        {
            byte[] name = Encoding.Latin1.GetBytes(latin1Name);
            writer.WriteByte(marker);
            writer.WriteUInt32(length ?? (uint)name.Length);
            writer.WriteBytes(name);
            writer.WriteInt32(id);
            writer.WriteByte(dummy);
        });

    internal static byte[] Section(string name, uint version, params byte[] body) => Build(writer =>
    {
        writer.WriteByte(5);
        writer.WriteByte((byte)name.Length);
        writer.WriteBytes(Encoding.Latin1.GetBytes(name));
        writer.WriteUInt32(version);
        writer.WriteBytes(body);
    });

    internal static byte[] Join(params byte[][] parts) => [.. parts.SelectMany(part => part)];

    internal static CprStateWalker Decode(ReadOnlySpan<byte> bytes, CprMode mode = CprMode.Transfer)
    {
        var walker = new CprStateWalker(mode, "test");
        walker.Feed(bytes, last: true);
        return walker;
    }

    internal delegate void Writing(WireWriter writer);

    internal static byte[] Build(Writing write)
    {
        var output = new ArrayBufferWriter<byte>();
        write(WireWriter.BigEndian(output));
        return output.WrittenSpan.ToArray();
    }
}
