using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>Writes the framing of a stream without I/O.</summary>
internal static class ElementWriter
{
    internal static void Header(IBufferWriter<byte> output)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteUInt32(StreamFormat.Magic);
        writer.WriteUInt32(StreamFormat.Version);
    }

    internal static void Configuration(IBufferWriter<byte> output, string machineType)
    {
        var writer = WireWriter.BigEndian(output);
        byte[] name = Encoding.UTF8.GetBytes(machineType);
        writer.WriteByte(StreamFormat.Configuration);
        writer.WriteUInt32((uint)name.Length);
        writer.WriteBytes(name);
    }

    internal static void Section(IBufferWriter<byte> output, SectionKind type, SaveVmEntry entry)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteByte((byte)type);
        writer.WriteUInt32(entry.SectionId);
        if (type is SectionKind.Start or SectionKind.Full)
        {
            writer.WriteByte((byte)entry.IdStrBytes.Length);
            writer.WriteBytes(entry.IdStrBytes);
            writer.WriteUInt32(entry.InstanceId);
            writer.WriteUInt32((uint)entry.VersionId);
        }
    }

    internal static void Footer(IBufferWriter<byte> output, uint sectionId)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteByte(StreamFormat.Footer);
        writer.WriteUInt32(sectionId);
    }

    internal static void Command(IBufferWriter<byte> output, StreamCommandId command, ReadOnlySpan<byte> data = default)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteByte(StreamFormat.Command);
        writer.WriteUInt16((ushort)command);
        writer.WriteUInt16((ushort)data.Length);
        writer.WriteBytes(data);
    }

    /// <summary>The head of a package, whose bytes follow.</summary>
    internal static void Packaged(IBufferWriter<byte> output, uint length)
    {
        Span<byte> data = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32BigEndian(data, length);
        Command(output, StreamCommandId.Packaged, data);
    }

    internal static void Eof(IBufferWriter<byte> output) => WireWriter.BigEndian(output).WriteByte(StreamFormat.Eof);

    internal static void Description(IBufferWriter<byte> output, ReadOnlySpan<byte> json)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteByte(StreamFormat.Description);
        writer.WriteUInt32((uint)json.Length);
        writer.WriteBytes(json);
    }
}
